"""The layers of B-cos networks: their derivative is their operator, and what the papers say of a B-cos unit."""

import jax
import jax.numpy as jnp
import pytest
from normal_arrays import normal

from dave_jax.effective import bcos, layers
from dave_jax.effective.decomposition import effective, gradient, presets

N, D = 5, 8


def _kernel(seed, *shape):
    return {"kernel": normal(seed, *shape)}


def _scale(seed, size=D):
    return {"scale": normal(seed, size)}


def _attention():
    return {name: _kernel(i, D, D) for i, name in enumerate(("query", "key", "value", "proj"))}


def _conv(x, rules):
    return bcos.bcos_convolution(_kernel(0, 3, 3, 2, 6), x.reshape(5, 4, 2), rules, stride=2, padding=1)


LAYERS = {
    "dense": lambda x, rules: bcos.bcos_dense(_kernel(0, D, 7), x, rules),
    "convolution": _conv,
    "norm": lambda x, rules: layers.centred_norm(_scale(0), x, rules, eps=1e-5),
    "norm of a map": lambda x, rules: bcos.map_norm(_scale(0, 2), x.reshape(5, 4, 2), rules, eps=1e-5),
    "attention": lambda x, rules: bcos.bcos_attention(_attention(), x, rules, num_heads=2),
    "inverse": lambda x, rules: bcos.with_inverse(bcos.one(2), x.reshape(5, 4, 2)),
}


@pytest.fixture(params=LAYERS, ids=str)
def layer(request, x64):
    return LAYERS[request.param]


def test_vjp_is_the_transposed_operator(layer):
    x = normal(1, N, D)

    @jax.jit
    def both(x):
        y, pull, op = jax.vjp(lambda x: layer(x, effective), x, has_aux=True)
        cotangent = normal(2, *y.shape)
        return pull(cotangent)[0], op.transpose()(cotangent)

    pulled, expected = both(x)
    assert jnp.allclose(pulled.ravel(), expected.ravel(), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_value_does_not_depend_on_the_decomposition(layer):
    values = [layer(normal(1, N, D), rules)[0] for rules in presets.values()]
    assert all(jnp.array_equal(values[0], value) for value in values[1:])


@pytest.mark.slow
def test_gradient_is_not_effective(x64):
    x = normal(1, N, D)
    for name in set(LAYERS) - {"inverse"}:
        slopes = [jax.grad(lambda x, name=name, rules=rules: jnp.sum(LAYERS[name](x, rules)[0] ** 3))(x) for rules in (gradient, effective)]
        assert float(jnp.abs(slopes[0] - slopes[1]).max()) > 1e-3 * float(jnp.abs(slopes[0]).max()), name


def test_a_unit_is_the_squared_cosine_times_the_length(x64):
    x, w = normal(1, N, D), normal(0, D, 7)
    cosines = jnp.stack([jnp.stack([jnp.vdot(a, b) / jnp.linalg.norm(a) / jnp.linalg.norm(b) for b in w.T]) for a in x])
    y, op = bcos.bcos_dense({"kernel": w}, x, effective)
    assert jnp.allclose(y, jnp.sign(cosines) * cosines**2 * jnp.linalg.norm(x, axis=1, keepdims=True), rtol=0, atol=1e-11)
    assert jnp.allclose(op.links[-1].scale, jnp.abs(cosines), rtol=0, atol=1e-11)


def test_the_length_of_a_weight_has_no_influence(x64):
    x = normal(1, N, D)
    plain, longer = _kernel(0, D, 7), {"kernel": normal(0, D, 7) * jnp.linspace(0.1, 9.0, 7)[None]}
    assert jnp.allclose(bcos.bcos_dense(longer, x, effective)[0], bcos.bcos_dense(plain, x, effective)[0], rtol=0, atol=1e-12)
    conv, other = _kernel(0, 3, 3, 2, 6), {"kernel": 7.0 * normal(0, 3, 3, 2, 6)}
    maps = [bcos.bcos_convolution(params, x.reshape(5, 4, 2), effective)[0] for params in (conv, other)]
    assert jnp.allclose(*maps, rtol=0, atol=1e-12)


def test_the_cosine_is_at_most_one_and_one_where_weight_and_input_align():
    w = normal(0, D, 7)
    y, op = bcos.bcos_dense({"kernel": w}, jnp.concatenate([normal(1, N, D), 3.0 * w.T]), effective)
    cosine = op.links[-1].scale
    assert float(cosine.max()) <= 1 + 1e-6  # rounding
    assert jnp.allclose(jnp.diag(cosine[N:]), 1.0, rtol=0, atol=1e-6)
    assert jnp.allclose(jnp.diag(y[N:]), 3.0 * jnp.linalg.norm(w, axis=0), rtol=1e-5)


def test_a_convolution_is_the_product_of_every_window(x64):
    """But for the constant in a window's length."""
    x, kernel = normal(1, 5, 4, 2), normal(0, 3, 3, 2, 6)
    y = bcos.bcos_convolution({"kernel": kernel}, x, effective, stride=2, padding=1)[0]
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    windows = jnp.stack([padded[i : i + 3, j : j + 3].ravel() for i in (0, 2, 4) for j in (0, 2)])
    squares = jnp.sum(windows**2, axis=1, keepdims=True)
    expected = bcos.bcos_dense({"kernel": kernel.reshape(-1, 6)}, windows, effective)[0] * jnp.sqrt(squares / (squares + 1e-6))
    assert y.shape == (3, 2, 6)
    assert jnp.allclose(y.reshape(-1, 6), expected, rtol=0, atol=1e-11)


def test_the_norm_of_a_map_is_that_of_its_entries_in_a_row(x64):
    x = normal(1, 5, 4, 2)
    gains = jnp.array([2.0, -0.5])
    y = bcos.map_norm({"scale": gains}, x, effective, eps=1e-5)[0]
    row = layers.centred_norm({"scale": jnp.tile(gains, 20)}, x.reshape(1, -1), effective, eps=1e-5)[0]
    assert jnp.allclose(y.ravel(), row.ravel(), rtol=0, atol=1e-12)


def test_nothing_comes_of_nothing():
    """And no NaN: of an input or a weight of zeros."""
    run = jax.jit(jax.value_and_grad(lambda x, w: jnp.sum(jnp.abs(bcos.bcos_dense({"kernel": w}, x, gradient)[0]))))
    for x, w in ((jnp.zeros((N, D)), normal(0, D, 7)), (normal(1, N, D), jnp.zeros((D, 7)))):
        y, slope = run(x, w)
        assert float(y) == 0.0 and not slope.any()
