"""The gamma rules against slow twins written from their equation, and the settings that rules refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from normal_arrays import normal

from dave_jax.effective.gamma import GammaLinear, GammaResidual
from dave_jax.effective.operators import Dense, Identity
from dave_jax.effective.tempered import TemperedSoftmax

pytestmark = pytest.mark.slow

TERMS = [
    (3.0, -1.0),
    (1.0, -3.0),
    (2.0, 5.0),
    (-2.0, -5.0),
    (0.0, 4.0),
    (-4.0, 0.0),
    (1e-30, 2e-30),
    (7.0, -7.0),
    (0.0, 0.0),
    (1.0, -0.999),
]


def gamma_weights(terms, gamma):
    """From the rule's equation: what each derivative of z = sum of the terms becomes."""
    z = sum(terms)
    weights = [1.0 + gamma if term * z > 0 else 1.0 for term in terms]
    total = sum(weight * term for weight, term in zip(weights, terms, strict=True))
    return weights if total == 0 else [weight * z / total for weight in weights]


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0, 10.0])
def test_residual_gamma(gamma, x64):
    x, branch = (jnp.array(column) for column in zip(*TERMS, strict=True))
    cotangent = normal(0, len(TERMS))
    y, pull = jax.vjp(GammaResidual(gamma), x, branch)
    slopes = pull(cotangent)
    expected = np.array([gamma_weights(pair, gamma) for pair in TERMS]) * np.asarray(cotangent)[:, None]
    assert jnp.allclose(jnp.stack(slopes, axis=-1), expected, rtol=1e-12, atol=0)
    relevance = jnp.stack([x * slopes[0], branch * slopes[1]])
    assert jnp.allclose(relevance.sum(0), y * cotangent, rtol=0, atol=1e-12)
    if gamma:
        bound = (1.0 + 2.0 / gamma) * jnp.abs(y * cotangent)  # where the gradient has none: (7, -7) gives 14 from 0
        live = jnp.array([sum(pair) != 0 for pair in TERMS])
        assert bool((jnp.abs(relevance).sum(0) <= bound * (1 + 1e-12))[live].all())


def test_residual_gamma_where_a_product_of_terms_underflows():
    slopes = jax.grad(GammaResidual(1.0), argnums=(0, 1))(jnp.float32(3e-30), jnp.float32(-2e-30))
    assert slopes == pytest.approx([0.5, 0.25], rel=1e-6)


def linear_case():
    """Inputs of either sign with zeros and a row of them, weights with a column of zeros and one that cancels."""
    x = np.array(normal(0, 4, 5))
    x[0, 1], x[3] = 0.0, 0.0
    kernel = np.array(normal(1, 5, 6))
    kernel[2, 3], kernel[:, 4], kernel[:, 5] = 0.0, 0.0, 0.0
    x[1, :2], kernel[:2, 5] = (2.0, -2.0), 1.0
    return x, kernel, np.array(normal(2, 4, 6))


@pytest.mark.parametrize("gamma", [0.0, 0.25, 100.0])
def test_linear_gamma(gamma, x64):
    x, kernel, cotangent = linear_case()
    expected = np.zeros_like(x)
    for n in range(x.shape[0]):
        for j in range(kernel.shape[1]):
            weights = gamma_weights([x[n, i] * kernel[i, j] for i in range(x.shape[1])], gamma)
            for i in range(x.shape[1]):
                expected[n, i] += weights[i] * kernel[i, j] * cotangent[n, j]
    op = GammaLinear(gamma)(Dense(jnp.asarray(kernel), x.shape))
    z, pull = jax.vjp(op, jnp.asarray(x))
    assert jnp.allclose(pull(jnp.asarray(cotangent))[0], expected, rtol=0, atol=1e-12)
    assert jnp.array_equal(z, jnp.asarray(x) @ jnp.asarray(kernel))
    jacobian = jax.jacobian(op)(jnp.asarray(x))  # conservation, output by output
    assert jnp.allclose(jnp.einsum("mjni,ni->mj", jacobian, jnp.asarray(x)), z, rtol=0, atol=1e-12)


def test_linear_gamma_within_transformations(x64):
    """vmap, scan and jit of the rule are the rule; the kernel's derivative is the plain one."""
    x, kernel, cotangent = (jnp.asarray(array) for array in linear_case())
    rule = GammaLinear(0.25)

    def pulled(rule, x, kernel, cotangent):
        return jax.vjp(lambda x, kernel: rule(Dense(kernel, x.shape))(x), x, kernel)[1](cotangent)

    slope, kernel_slope = pulled(rule, x, kernel, cotangent)
    plain_slope, plain_kernel_slope = pulled(lambda op: op, x, kernel, cotangent)
    assert jnp.allclose(kernel_slope, plain_kernel_slope, rtol=0, atol=1e-12)
    assert float(jnp.abs(slope - plain_slope).max()) > 0.1
    assert jnp.allclose(jax.jit(pulled, static_argnums=0)(rule, x, kernel, cotangent)[0], slope, rtol=0, atol=1e-12)
    rows, kernels = jax.vmap(lambda x, cotangent: pulled(rule, x, kernel, cotangent))(x, cotangent)
    assert jnp.allclose(rows, slope, rtol=0, atol=1e-12)
    assert jnp.allclose(kernels.sum(0), kernel_slope, rtol=0, atol=1e-12)

    square = normal(5, 3, 5, 5)
    layer = lambda x, kernel: (rule(Dense(kernel, x.shape))(x), None)
    scanned = jax.grad(lambda x: jnp.sum(jax.lax.scan(layer, x, square)[0] ** 2))(x)
    unrolled = jax.grad(lambda x: jnp.sum(functools.reduce(lambda x, kernel: layer(x, kernel)[0], square, x) ** 2))(x)
    assert jnp.allclose(scanned, unrolled, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gamma_of_nothing_is_finite(precision):
    """Zero sums everywhere: a black image in a network without biases."""
    op = GammaLinear(0.25)(Dense(jnp.ones((3, 2), precision), (4, 3)))
    for x in (jnp.zeros((4, 3), precision), jnp.tile(jnp.array([1.0, -1.0, 0.0], precision), (4, 1))):
        (slope,) = jax.vjp(op, x)[1](jnp.ones((4, 2), precision))
        assert slope.dtype == precision
        assert jnp.array_equal(slope, jnp.full_like(slope, 2.0))  # the gradient
        slopes = jax.vjp(GammaResidual(1.0), x, -x)[1](jnp.ones_like(x))
        assert all(jnp.array_equal(slope, jnp.ones_like(x)) for slope in slopes)


def test_settings_of_rules_are_checked():
    for rule in (GammaLinear, GammaResidual):
        with pytest.raises(ValueError, match=f"{rule.__name__} weighs .* at least 0; got -1"):
            rule(-1.0)
    with pytest.raises(ValueError, match="temperature above 0; got 0"):
        TemperedSoftmax(0.0)
    with pytest.raises(TypeError, match=r"products with weights \(Dense\); got Identity"):
        GammaLinear(0.25)(Identity((2,)))
