import jax
import jax.numpy as jnp
import pytest

from dave_jax.sampling.noise import add_noise, noise_levels


@pytest.mark.parametrize("schedule", ["linear", "angle"])
def test_levels_run_from_zero_to_alpha(schedule):
    levels = noise_levels(7, 0.9, schedule)
    assert float(levels[0]) == 0.0
    assert abs(float(levels[-1]) - 0.9) < 1e-6
    assert bool((jnp.diff(levels) > 0).all())


def test_angles_are_evenly_spaced():
    theta = jnp.arccos(1.0 - noise_levels(5, 0.7, "angle"))
    assert jnp.allclose(jnp.diff(theta), theta[1], atol=1e-5)


def test_one_sample_is_the_image_itself():
    assert noise_levels(1, 0.9).tolist() == [0.0]


@pytest.mark.parametrize("t", [0.0, 0.3, 0.9])
def test_path_keeps_the_variance(t):
    image, noise = jax.random.normal(jax.random.key(0), (2, 100_000))
    assert abs(float(jnp.var(add_noise(image, noise, t))) - 1.0) < 0.03
