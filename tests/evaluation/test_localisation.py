import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.evaluation.localisation import energy_in_region, pointing_game, relevance_rank_accuracy, smooth

SCORES = (energy_in_region, relevance_rank_accuracy, pointing_game)


@pytest.fixture
def regions(key):
    return jax.random.bernoulli(key, 0.3, (4, 6, 5)).at[:, 0, 0].set(True)


@pytest.mark.parametrize("score", SCORES)
def test_the_object_itself_is_the_best_map_and_the_rest_the_worst(score, regions):
    inside = regions.astype(jnp.float32)
    assert score(inside, regions).tolist() == [1.0] * 4
    assert score(1.0 - 2.0 * inside, regions).tolist() == [0.0] * 4


@pytest.mark.parametrize("score", SCORES)
def test_batches_compile_and_agree_with_single_maps(score, regions, key):
    maps = jax.random.normal(key, regions.shape)
    expected = [float(score(heat, region)) for heat, region in zip(maps, regions, strict=True)]
    assert np.allclose(score(maps, regions), expected, atol=1e-7)
    assert np.allclose(jax.jit(score)(maps.reshape(2, 2, 6, 5), regions.reshape(2, 2, 6, 5)).ravel(), expected, atol=1e-7)


def test_energy_by_hand():
    maps = jnp.array([[[2.0, -1.0], [1.0, 1.0]], [[-1.0, -1.0], [0.0, 0.0]]])
    region = jnp.array([[[True, True], [False, False]]] * 2)
    assert np.array_equal(energy_in_region(maps, region), [0.5, np.nan], equal_nan=True)  # without positive mass: not defined
    with jax.debug_nans(False):
        assert np.isnan(jax.jit(energy_in_region)(maps, region)[1])


def test_ranks_and_pointing_by_hand():
    region = jnp.array([[True, True, False], [False, False, True]])
    heat = jnp.array([[5.0, 1.0, 4.0], [-7.0, 0.0, 3.0]])
    assert relevance_rank_accuracy(heat, region) == pytest.approx(2 / 3)
    assert pointing_game(heat, region) == 1.0
    assert pointing_game(-heat, region) == 0.0
    assert relevance_rank_accuracy(jnp.zeros((2, 3)), region) == pytest.approx(2 / 3)  # the first three in reading order
    assert pointing_game(jnp.zeros((2, 3)), ~region) == 0.0


@pytest.mark.parametrize("size", [1, 3, 5])
def test_smoothing_is_a_mean_with_zeros_outside(key, size):
    maps = np.asarray(jax.random.normal(key, (2, 6, 7)))
    padded = np.pad(maps, ((0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    assert np.allclose(smooth(jnp.asarray(maps), size), windows.mean((-2, -1)), atol=1e-6)


def test_smoothing_comes_before_the_positive_part():
    """Noise of both signs outside the object cancels."""
    noise = jnp.where((jnp.arange(9)[:, None] + jnp.arange(9)[None]) % 2 == 0, 1.0, -1.0)
    region = jnp.zeros((9, 9), bool).at[:3, :3].set(True)
    maps = jnp.where(region, 1.0, noise)
    assert energy_in_region(maps, region, smoothing=3) > energy_in_region(maps, region) + 0.1
    with pytest.raises(ValueError, match=r"odd number .* got 2"):
        energy_in_region(maps, region, smoothing=2)


@pytest.mark.parametrize("score", SCORES)
def test_an_empty_region_is_refused(score, regions):
    with pytest.raises(ValueError, match=r"\[2\] are empty"):
        score(jnp.ones(regions.shape), regions.at[2].set(False))
