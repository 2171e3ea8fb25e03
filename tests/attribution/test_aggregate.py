import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.attribution import aggregate
from dave_jax.attribution.aggregate import AGGREGATIONS, lower_median, mad_mean, weighted_mean


@pytest.mark.parametrize("count", [1, 2, 5, 8, 51, 255, 256, 600])  # above 255 a byte cannot count them
def test_lower_median_is_the_sorted_middle(count):
    samples = jax.random.normal(jax.random.key(count), (count, 7, 3)) * 1e3
    assert jnp.array_equal(lower_median(samples), jnp.sort(samples, axis=0)[(count - 1) // 2])


@pytest.mark.parametrize("block", [1, 5 * 4 * 8, 2**18])  # bytes: an element, eight of 21, all
def test_lower_median_by_blocks(block, monkeypatch):
    """What a CPU does block by block, other devices do at once."""
    monkeypatch.setattr(aggregate, "BLOCK_BYTES", block)
    ordered = jax.random.bits(jax.random.key(0), (5, 7, 3))
    assert jnp.array_equal(aggregate._select_by_blocks(ordered, jnp.asarray(1)), jnp.sort(ordered, axis=0)[1])


@pytest.mark.parametrize("digit_bits", [8, 16, 32])
@pytest.mark.parametrize("like", [0xFF, 0xFF00FF, 0x80000000, 0xFFFFFFFF])
def test_selection_by_digits(digit_bits, like):
    """Values that share digits, the least and the largest among them."""
    ordered = jax.random.bits(jax.random.key(0), (9, 50)) & jnp.uint32(like)
    ordered = ordered.at[:2, 0].set(0).at[2:, 0].set(0xFFFFFFFF)
    for rank in range(9):
        assert jnp.array_equal(aggregate._select(ordered, jnp.asarray(rank), digit_bits), jnp.sort(ordered, axis=0)[rank])


def test_lower_median_of_special_values():
    values = jnp.array([[-0.0, 1e-45, -jnp.inf], [0.0, -1e-45, jnp.inf], [0.0, 0.0, 3.0]])
    assert lower_median(values).tolist() == [0.0, 0.0, 3.0]


def test_lower_median_in_double_precision(x64):
    samples = jax.random.normal(jax.random.key(0), (6, 5))
    assert jnp.array_equal(lower_median(samples), jnp.sort(samples, axis=0)[2])


def slow_mad_mean(samples, threshold=2.5):
    result = np.empty(samples.shape[1:])
    for index in np.ndindex(*samples.shape[1:]):
        values = np.sort(samples[(slice(None), *index)])
        median = values[(len(values) - 1) // 2]
        mad = np.sort(np.abs(values - median))[(len(values) - 1) // 2]
        result[index] = values[np.abs(values - median) <= threshold * (1.4826 * mad + 1e-8)].mean()
    return result


@pytest.mark.parametrize("count", [1, 4, 9])
def test_mad_mean_equals_slow_version(count):
    samples = jax.random.cauchy(jax.random.key(1), (count, 6, 4))
    assert np.allclose(mad_mean(samples), slow_mad_mean(np.asarray(samples)), rtol=1e-5, atol=1e-6)


def test_mad_mean_leaves_outliers_out():
    samples = jnp.ones((9, 2)).at[3, 0].set(1e6)
    assert mad_mean(samples).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["mad_mean", "biweight"])
def test_an_infinite_sample_is_an_outlier(name):
    found = AGGREGATIONS[name](jnp.array([[1.0], [2.0], [3.0], [2.0], [jnp.inf]]))
    assert np.allclose(found, 2.0)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_nan_is_no_outlier(name):
    """One that was left out would hide a broken model behind a map of the others, or of zeros."""
    samples = jnp.array([[1.0, 1.0], [2.0, 2.0], [3.0, jnp.nan], [2.0, 2.0], [2.0, 2.0]])
    assert np.array_equal(AGGREGATIONS[name](samples), [2.0, np.nan], equal_nan=True)
    assert np.isnan(AGGREGATIONS[name](jnp.full((5, 1), jnp.nan))).all()


def test_biweight_without_a_threshold_is_the_mean(key):
    samples = jax.random.normal(key, (9, 5))
    np.testing.assert_allclose(AGGREGATIONS["biweight"](samples, jnp.inf), samples.mean(0), rtol=1e-5, atol=1e-6)


def test_biweight_equals_slow_version(key):
    samples = np.asarray(jax.random.normal(key, (9, 5)), np.float64)
    median = np.sort(samples, axis=0)[4]
    radius = 2.5 * (1.4826 * np.sort(np.abs(samples - median), axis=0)[4] + 1e-8)
    weights = np.maximum(0.0, 1 - ((samples - median) / (2 * radius)) ** 2) ** 2
    expected = (weights * samples).sum(0) / weights.sum(0)
    np.testing.assert_allclose(AGGREGATIONS["biweight"](jnp.asarray(samples, jnp.float32)), expected, rtol=1e-5, atol=1e-6)


def test_two_samples_keep_the_lower(key):
    """With a deviation of 0 the median's own sample stays, though its last product be computed again inside the comparison."""
    image, gradients = jax.random.normal(key, (64, 64)), 100 * jax.random.normal(jax.random.key(1), (2, 64, 64))
    found = jax.jit(lambda image, gradients: AGGREGATIONS["mad_mean"](image[None] * gradients))(image, gradients)
    np.testing.assert_allclose(found, np.minimum(*(np.asarray(image)[None] * np.asarray(gradients))), rtol=1e-5, atol=1e-6)


def test_a_mean_of_nothing_is_nothing():
    """Also where it is divided once more, as by the image in `smooth`: the two divisors become one."""
    share = jax.jit(lambda samples, weights, divisor: weighted_mean(samples, weights) / divisor)
    assert share(jnp.ones((3, 2)), jnp.zeros((3, 2)), jnp.array([0.25, 2.0])).tolist() == [0.0, 0.0]
