import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.attribution.aggregate import lower_median, mad_mean


@pytest.mark.parametrize("count", [1, 2, 5, 8, 51])
def test_lower_median_is_the_sorted_middle(count):
    samples = jax.random.normal(jax.random.key(count), (count, 7, 3)) * 1e3
    assert jnp.array_equal(lower_median(samples), jnp.sort(samples, axis=0)[(count - 1) // 2])


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
