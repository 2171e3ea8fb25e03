import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.attribution.postprocess import bilateral, blend_gaussian, divide_by_maximum, positive_part, postprocess


def slow_window(heat, size, weigh):
    """Sum over a window with zeros outside, weights normalised to one, pixel by pixel."""
    radius = size // 2
    padded = np.pad(heat, radius)
    result = np.empty_like(heat)
    offsets = np.arange(size) - radius
    distance = offsets[:, None] ** 2 + offsets[None] ** 2
    for row, column in np.ndindex(*heat.shape):
        window = padded[row : row + size, column : column + size]
        weights = weigh(distance, window - heat[row, column])
        result[row, column] = (weights * window).sum() / weights.sum()
    return result


def test_gaussian_equals_slow_version():
    heat = jax.random.uniform(jax.random.key(0), (9, 14))
    slow = slow_window(np.asarray(heat), 5, lambda distance, difference: np.exp(-distance / (2 * 1.5**2)))
    assert np.allclose(blend_gaussian(heat, size=5, sigma=1.5, share=0.25), 0.75 * heat + 0.25 * slow, atol=1e-6)


def test_bilateral_equals_slow_version():
    heat = jax.random.uniform(jax.random.key(0), (9, 14))
    slow = slow_window(np.asarray(heat), 5, lambda distance, difference: np.exp(-distance / (2 * 0.7**2) - difference**2 / (2 * 0.3**2)))
    assert np.allclose(bilateral(heat, size=5, sigma=0.7, value_range=0.3), slow, atol=1e-6)


def test_bilateral_keeps_an_edge_that_a_blur_would_not():
    edge = jnp.zeros((9, 9)).at[:, 5:].set(1.0)
    kept = bilateral(edge, size=5, sigma=2.0, value_range=0.05)
    assert float(jnp.abs(kept - edge).max()) < 1e-6
    assert float(jnp.abs(blend_gaussian(edge, size=5, sigma=2.0, share=1.0) - edge)[:, :7].max()) > 0.1


def test_parts():
    raw = jnp.array([[[1.0, 1.0, -0.5], [-1.0, 0.0, 0.5]]])
    assert positive_part(raw).tolist() == [[1.5, 0.0]]
    assert divide_by_maximum(jnp.array([[0.5, 0.25]])).tolist() == [[1.0, 0.5]]


def test_the_maximum_is_one_exactly():
    heat = jax.random.uniform(jax.random.key(0), (100, 4, 4))
    assert jax.jit(jax.vmap(divide_by_maximum))(heat).max((1, 2)).tolist() == [1.0] * 100


def test_zeros_stay_zeros():
    assert not postprocess(jnp.zeros((12, 12, 3))).any()
    assert not postprocess(-jnp.ones((12, 12, 3))).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(value):
    """A map of zeros, or of ones, would look like an answer."""
    assert np.isnan(divide_by_maximum(jnp.ones((12, 12)).at[3, 4].set(value))).all()
    assert np.isnan(postprocess(jnp.ones((12, 12, 3)).at[3, 4, 0].set(value))).all()


def test_heat_maps_lie_between_zero_and_one():
    heat = postprocess(jax.random.normal(jax.random.key(0), (20, 15, 3)))
    assert heat.shape == (20, 15)
    assert float(heat.min()) >= 0.0 and float(heat.max()) == 1.0
