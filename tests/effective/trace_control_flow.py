"""Loops, branches, calls and maps, as people write them of tokens (6, 8); each returns (6, 8)."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
from trace_arrays import bias, draw, weights
from trace_attention import attention
from trace_normalisations import layer_norm


def scanned(x):
    def block(x, kernel):
        x = x + attention(layer_norm(x))
        return x + jax.nn.gelu(x @ kernel, approximate=False), x.sum()

    return jax.lax.scan(block, x, draw(8, 3, 8, 8) / 3)[0]


def recurrent(x):
    def step(state, row):
        state = jnp.tanh(state @ weights(2) + row)
        return state, state

    return jax.lax.scan(step, jnp.zeros(8, x.dtype), x)[1]


def gated_recurrent(x):
    def step(state, row):
        return 0.5 * state + row * jax.nn.sigmoid(state), state

    return jax.lax.scan(step, jnp.ones(8, x.dtype), x, reverse=True)[1]


def branched(x):
    return jax.lax.cond(x[0, 0] > 0, lambda x: jnp.tanh(x) + 1, lambda x: jax.nn.silu(x) @ weights(2), x)


def branched_to_a_constant(x):
    return x + jax.lax.cond(x[0, 0] > 10, lambda x: x, lambda x: jnp.ones_like(x), x)


def counted_while(x):
    return jax.lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, jnp.tanh(c[1] @ weights(2))), (0, x))[1]


def counted_for(x):
    return jax.lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ weights(2)) + bias(), x)


def checkpointed(x):
    return jax.checkpoint(lambda x: x + attention(layer_norm(x)), policy=jax.checkpoint_policies.dots_saveable)(x)


@jax.custom_vjp
def straight_silu(x):
    return x * jax.nn.sigmoid(x)


straight_silu.defvjp(lambda x: (straight_silu(x), None), lambda _, cotangent: (cotangent,))


@jax.custom_jvp
def own_sinh(x):
    return jnp.sinh(x)


own_sinh.defjvp(lambda primals, tangents: (own_sinh(*primals), tangents[0]))


def nested_jit(x):
    return jax.jit(lambda x: jax.jit(jax.nn.gelu)(x) @ weights(2))(x)


def mapped(x):
    return jax.vmap(lambda row: jnp.tanh(row @ weights(2)) * jax.nn.sigmoid(row))(x)


def sharded(x):
    mesh = jax.make_mesh((1,), ("a",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("a")
    return jax.shard_map(lambda x: jnp.tanh(x @ weights(2)) + jax.lax.psum(x, "a"), mesh=mesh, in_specs=spec, out_specs=spec)(x)


CONTROL_FLOW = [
    scanned, recurrent, gated_recurrent, branched, branched_to_a_constant, counted_while, counted_for, checkpointed, straight_silu,
    own_sinh, nested_jit, mapped, sharded,
]  # fmt: skip
