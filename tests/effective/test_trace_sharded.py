"""`decompose` on several devices: around a `shard_map`, within one, and with what devices tell each other on the stream."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from trace_arrays import bias, draw, weights
from trace_attention import attention
from trace_normalisations import layer_norm

import dave_jax as dave

NAME = "device"


@pytest.fixture
def mesh():
    if jax.device_count() < 2:
        pytest.skip("needs two devices: XLA_FLAGS=--xla_force_host_platform_device_count=2")
    return jax.make_mesh((2,), (NAME,), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])


def block(x):
    """Tokens to tokens."""
    x = x + attention(layer_norm(x))
    return x + jax.nn.gelu(x @ weights(5) + bias()) @ weights(6)


def sequence_parallel(x):
    """The same, a device seeing half of the tokens, and the keys and values of all."""
    y = layer_norm(x)
    every = jax.lax.all_gather(y, NAME, tiled=True)
    query, key, value = y @ weights(2), every @ weights(3) + bias(), every @ weights(4)
    x = x + jax.nn.softmax(query @ key.T / 8**0.5) @ value
    return x + jax.nn.gelu(x @ weights(5) + bias()) @ weights(6)


def tensor_parallel(x, gate, up, down):
    """A gated perceptron with its hidden units spread over the devices."""
    return jax.lax.psum((jax.nn.silu(x @ gate) * jnp.tanh(x @ up)) @ down, NAME)


def slopes(function, x):
    logit = lambda x: (layer_norm(function(x)).mean(0) @ draw(21, 8, 3))[1]
    return jax.jit(jax.grad(dave.decompose(logit)))(x)


def difference(found, expected):
    return float(jnp.abs(found - expected).max() / jnp.abs(expected).max())


def test_a_function_that_is_spread_over_tokens(mesh, x64):
    x, spec = draw(0, 6, 8), PartitionSpec(NAME)
    spread = jax.shard_map(sequence_parallel, mesh=mesh, in_specs=spec, out_specs=spec)
    assert difference(slopes(spread, x), slopes(block, x)) < 1e-12
    report = dave.inspect(lambda x: spread(x).mean(0), x)
    assert [one.site for one in report.findings] == ["normalisation", "attention", "activation"]
    assert report.residual < 1e-12


def test_a_function_that_is_spread_over_hidden_units(mesh, x64):
    x, kernels = draw(0, 6, 8), (weights(2), weights(3), weights(4))
    columns, rows, everywhere = PartitionSpec(None, NAME), PartitionSpec(NAME), PartitionSpec()
    spread = jax.shard_map(tensor_parallel, mesh=mesh, in_specs=(everywhere, columns, columns, rows), out_specs=everywhere)
    whole = lambda x: (jax.nn.silu(x @ kernels[0]) * jnp.tanh(x @ kernels[1])) @ kernels[2]
    assert difference(slopes(lambda x: spread(x, *kernels), x), slopes(whole, x)) < 1e-12


def test_images_spread_over_devices(mesh, x64):
    """Within `shard_map`, and under `jit` with sharded inputs: the derivatives of one device."""
    images, spec = draw(0, 4, 6, 8), PartitionSpec(NAME)
    one = jax.grad(dave.decompose(lambda x: jax.vmap(jnp.tanh)(block(x)).mean(0) @ draw(21, 8)))
    expected = jnp.stack([jax.jit(one)(image) for image in images])
    within = jax.jit(jax.shard_map(jax.vmap(one), mesh=mesh, in_specs=spec, out_specs=spec))(images)
    outside = jax.jit(jax.vmap(one))(jax.device_put(images, NamedSharding(mesh, spec)))
    assert len(within.sharding.device_set) == len(outside.sharding.device_set) == 2
    assert difference(within, expected) < 1e-12 and difference(outside, expected) < 1e-12
