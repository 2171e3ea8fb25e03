"""Products with a kernel in half precision: both factors are rounded, nothing else is, forwards and backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.effective.decomposition import gradient
from dave_jax.effective.gamma import GammaLinear
from dave_jax.effective.layers import dense
from dave_jax.effective.operators import Dense
from dave_jax.effective.precision import product

X, WEIGHTS, COTANGENT = (jax.random.normal(jax.random.key(seed), shape) for seed, shape in enumerate([(5, 24), (24, 7), (5, 7)]))
KERNEL = WEIGHTS.astype(jnp.bfloat16)
SUMS = 4e-6  # of 24 products of a few units, in float32


def rounded(x):
    return np.asarray(x.astype(jnp.bfloat16), np.float64)


def test_value_is_the_product_of_rounded_factors():
    found = product(X, KERNEL)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, rounded(X) @ rounded(KERNEL), rtol=0, atol=SUMS)
    assert float(jnp.abs(found - X @ WEIGHTS).max()) > 1e-3  # which is not the product of the factors
    assert jnp.array_equal(product(X, WEIGHTS), X @ WEIGHTS)
    assert product(X.astype(jnp.bfloat16), KERNEL).dtype == jnp.bfloat16


def test_float32_kernels_round_nothing(x64):
    x = X.astype(jnp.float64)
    with jax.numpy_dtype_promotion("standard"):
        assert jnp.array_equal(product(x, WEIGHTS), x @ WEIGHTS.astype(jnp.float64))


def test_derivative_is_the_transposed_operator():
    op = Dense(KERNEL, X.shape)
    (slope,) = jax.vjp(op, X)[1](COTANGENT)
    assert jnp.array_equal(slope, op.transpose()(COTANGENT))
    np.testing.assert_allclose(slope, rounded(COTANGENT) @ rounded(KERNEL).T, rtol=0, atol=SUMS)


def test_derivative_in_the_kernel():
    """Linear in it, so exact, but for the rounding to its type; and it takes nothing from the derivative in `x`."""
    _, pull = jax.vjp(product, X, KERNEL)
    slope, kernel_slope = pull(COTANGENT)
    assert kernel_slope.dtype == jnp.bfloat16
    np.testing.assert_allclose(kernel_slope.astype(jnp.float32), X.T @ COTANGENT, rtol=2**-8, atol=SUMS)
    assert jnp.array_equal(slope, Dense(KERNEL, X.shape).transpose()(COTANGENT))


def test_under_transformations():
    kernels = jnp.stack([KERNEL @ KERNEL.T, KERNEL @ KERNEL.T])
    apply = lambda x, kernel: (product(x, kernel), None)
    scanned = jax.jit(lambda x: jax.lax.scan(apply, x, kernels)[0])
    np.testing.assert_allclose(scanned(X), product(product(X, kernels[0]), kernels[1]), rtol=1e-5)
    rows = jax.vmap(jax.grad(lambda x: product(x[None], KERNEL).sum()))(X)
    np.testing.assert_allclose(rows, jax.grad(lambda x: product(x, KERNEL).sum())(X), rtol=1e-6)


@pytest.mark.parametrize("rule", [lambda op: op, GammaLinear(0.25)])
def test_rules_take_such_a_kernel(rule):
    found, op = dense({"kernel": KERNEL, "bias": jnp.ones(7)}, X, gradient)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(rule(op)(X) + 1.0, found, rtol=0, atol=0.05)  # GammaLinear rounds the kernel alone
    (slope,) = jax.vjp(rule(op), X)[1](COTANGENT)
    assert slope.dtype == jnp.float32 and bool(jnp.isfinite(slope).all())
