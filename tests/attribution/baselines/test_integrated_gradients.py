"""Integrated Gradients: completeness, and a model whose integral is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_model import small_model

from dave_jax.attribution.baselines.integrated_gradients import IntegratedGradients
from dave_jax.testing import tiny_model


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(3), (2, 16, 16, 3))


@pytest.mark.parametrize("kind", ["channels", "image"])
def test_completeness(kind, images):
    """Sums to f(x) - f(baseline), up to the rule's error: at 32 nodes it is below float32's rounding of 256 terms."""
    model = small_model()
    given = {"channels": (0.3, -0.2, 0.1), "image": jax.random.normal(jax.random.key(4), (16, 16, 3))}[kind]
    baseline = jnp.broadcast_to(jnp.asarray(given), images.shape[1:])
    cotangents = jax.random.normal(jax.random.key(5), (2, 3, 5))
    maps = IntegratedGradients(num_steps=32, baseline=given)(model, images, cotangents, raw=True)
    change = model.logits(images) - model.logits(baseline[None])
    expected = jnp.einsum("bkc,bc->bk", cotangents, change)
    np.testing.assert_allclose(maps.sum((2, 3)), expected, atol=1e-5)
    assert float(jnp.abs(expected).min()) > 0.01


def quadratic(params, image, decomposition):
    return jnp.einsum("chwd,hwd->c", params, image, precision="highest") ** 2


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_is_exact_where_the_gradient_is_linear(num_steps, images):
    """f = <w, x>^2 has the integral (x - b) w <w, x + b>; one node of the Gauss-Legendre rule takes it exactly."""
    weights = jax.random.normal(jax.random.key(8), (5, 16, 16, 3))
    model = dataclasses.replace(small_model(), params=weights, forward=quadratic)
    baseline = np.array([0.5, -0.3, 0.1], np.float32)
    maps = IntegratedGradients(num_steps=num_steps, baseline=baseline)(model, images, [2, 0], raw=True)
    for image, weight, found in zip(np.asarray(images), np.asarray(weights)[[2, 0]], maps, strict=True):
        expected = ((image - baseline) * weight * np.sum(weight * (image + baseline))).sum(-1)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_along_another_decomposition(images):
    """The mean of that decomposition's derivatives, node by node."""
    model = tiny_model()
    nodes, weights = np.polynomial.legendre.leggauss(3)
    derivative = jax.jit(jax.grad(lambda image: model.forward(model.params, image, "effective")[1]))
    mean = sum(weight / 2 * np.asarray(derivative(images[0] * (1 + node) / 2)) for node, weight in zip(nodes, weights, strict=True))
    expected = np.sum(np.asarray(images[0]) * mean, axis=-1)
    found = IntegratedGradients(num_steps=3, decomposition="effective")(model, images[:1], [1], raw=True)
    np.testing.assert_allclose(found[0], expected, atol=2e-6 * np.abs(expected).max())
