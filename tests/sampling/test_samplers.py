"""Samplers: what each draws, and that a lattice is spread more evenly than independent numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.sampling.noise import noise_levels
from dave_jax.sampling.samplers import SAMPLERS, lattice_point
from dave_jax.testing import tiny_model

IMAGE = jax.ShapeDtypeStruct((8, 12, 3), jnp.float32)
CONFIG = dave.DaveConfig(num_samples=16, noise_alpha=0.5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_every_level_once_and_standard_noise(name, key):
    found = jax.vmap(lambda number: SAMPLERS[name](key, number, CONFIG, IMAGE))(jnp.arange(16))
    assert np.allclose(np.sort(found.level), noise_levels(16, 0.5), atol=1e-6)
    assert found.noise.shape == (16, *IMAGE.shape)
    assert abs(float(found.noise.mean())) < 0.1 and abs(float(found.noise.std()) - 1.0) < 0.05
    assert len(np.unique(np.asarray(found.transform.matrix).reshape(16, -1), axis=0)) == 16


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sample_is_a_function_of_key_and_number(name, key):
    alone = SAMPLERS[name](key, jnp.asarray(5), CONFIG, IMAGE)
    together = jax.vmap(lambda number: SAMPLERS[name](key, number, CONFIG, IMAGE))(jnp.arange(3, 9))
    for first, second in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        np.testing.assert_array_equal(first, second[2])
    other = SAMPLERS[name](jax.random.key(1), jnp.asarray(5), CONFIG, IMAGE)
    assert not np.allclose(alone.transform.matrix, other.transform.matrix) and not np.allclose(alone.noise, other.noise)


def test_any_run_of_the_lattice_is_spread_evenly(key):
    """In each coordinate no part of [0, 1) is as empty or as full as among independent numbers, wherever the run begins."""
    for first in (0, 1000, 2**31):
        points = jax.vmap(lambda number: lattice_point(key, number))(jnp.arange(64, dtype=jnp.uint32) + jnp.uint32(first))
        assert float(points.min()) >= 0.0 and float(points.max()) < 1.0
        distance = [np.abs(np.sort(column) - (np.arange(64) + 0.5) / 64).max() for column in np.asarray(points).T]
        # the Kolmogorov-Smirnov distance of 64 independent numbers is 0.11 in the mean, that of a coordinate here at most this
        assert max(distance) < 0.11 and np.mean(distance) < 0.06


def test_lattice_points_keep_their_digits(key):
    """Steps are exact in integers: far along the sequence as at its start."""
    near = [lattice_point(key, jnp.uint32(i)) for i in (0, 1)]
    far = [lattice_point(key, jnp.uint32(3_000_000_000 + i)) for i in (0, 1)]
    step, other = (np.asarray(second - first) % 1.0 for first, second in (near, far))
    np.testing.assert_allclose(step, other, atol=1e-6)


@pytest.mark.slow
def test_the_sampler_of_the_config_is_used(key):
    model, images = tiny_model(), jax.random.normal(key, (1, 16, 16, 3))
    maps = {name: dave.explain(model, images, [1], key=key, config=dataclasses.replace(model.config, sampler=name)) for name in SAMPLERS}
    assert all(float(jnp.abs(maps["independent"] - maps[name]).max()) > 1e-3 for name in SAMPLERS if name != "independent")


def test_unknown_sampler(key):
    model = tiny_model()
    config = dataclasses.replace(model.config, sampler="latice")
    with pytest.raises(ValueError, match=r"one of .*'lattice'.*got 'latice'"):
        dave.explain(model, jnp.ones((1, 16, 16, 3)), [0], key=key, config=config)
