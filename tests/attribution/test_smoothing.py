"""Smoothing against a dense solve, its limits, and where `explain` applies it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.smoothing import smooth, smooth_attribution
from dave_jax.models.bcos import BcosViT
from dave_jax.models.bcos_config import BcosViTConfig, init_params
from dave_jax.testing import tiny_model

KEY, CONFIG = jax.random.key(3), dave.DaveConfig(num_samples=6, noise_alpha=0.4)


def penalised(array, length, count):
    """argmin of n |V - W|^2 + length^2 |grad V|^2 by one dense system, slopes taken of the interpolating cosines."""

    def slopes(size):
        centres, orders = np.arange(size) + 0.5, np.arange(size)
        basis = np.cos(np.pi * orders * centres[:, None] / size)  # values at the centres, by order
        return basis @ np.diag((np.pi * orders / size) ** 2) @ np.linalg.inv(basis)  # minus the second derivative

    height, width, channels = array.shape
    penalty = np.kron(slopes(height), np.eye(width)) + np.kron(np.eye(height), slopes(width))
    system = count * np.eye(height * width) + length**2 * penalty
    return np.linalg.solve(system, count * array.reshape(-1, channels)).reshape(array.shape)


def test_is_the_penalised_fit(x64):
    array = np.random.default_rng(0).normal(size=(6, 9, 3))
    np.testing.assert_allclose(smooth(jnp.asarray(array), 2.5, 7), penalised(array, 2.5, 7), rtol=0, atol=1e-12)


def test_keeps_the_mean_and_what_is_flat():
    array = jax.random.normal(KEY, (2, 8, 12, 3))
    np.testing.assert_allclose(smooth(array, 4.0, 3).mean((1, 2)), array.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(smooth(jnp.ones((8, 12, 3)), 4.0, 3), 1.0, atol=1e-6)


def test_many_samples_are_left_as_they_are():
    array = jax.random.normal(KEY, (8, 12, 3))
    distances = [float(jnp.abs(smooth(array, 3.0, count) - array).max()) for count in (1, 10_000, 1_000_000)]
    assert distances[0] > 0.5 > 0.1 > distances[1] > 50 * distances[2]
    np.testing.assert_allclose(smooth(array, 0.0, 1), array, atol=1e-5)


def test_what_the_image_multiplies_is_smoothed():
    image, transformation = jax.random.normal(KEY, (8, 8, 3)).at[2, 3].set(0.0), jax.random.normal(jax.random.key(4), (2, 8, 8, 3))
    found = smooth_attribution(image[None] * transformation, image, 2.0, 5)
    expected = image[None] * smooth(transformation.at[:, 2, 3].set(0.0), 2.0, 5)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert bool(jnp.isfinite(found).all()) and not found[:, 2, 3].any()


@pytest.mark.parametrize(
    "changes", [{}, {"mad_pilot": 3, "aggregation": "biweight"}, pytest.param({"aggregation": "streaming_mean"}, marks=pytest.mark.slow)]
)
def test_explain_smooths_the_average(changes):
    model, images = tiny_model(), jax.random.normal(KEY, (2, 16, 16, 3))
    plain = dataclasses.replace(CONFIG, **changes)
    maps = [dave.explain(model, images, [[0, 1], [2, 3]], key=KEY, config=config, raw=True) for config in (plain, with_smoothing(plain))]
    expected = jax.vmap(lambda raw, image: smooth_attribution(raw, image, 3.0, 6))(maps[0], images)
    np.testing.assert_allclose(maps[1], expected, atol=1e-4 * float(jnp.abs(expected).max()))
    assert float(jnp.abs(maps[1] - maps[0]).max()) > 0.1 * float(jnp.abs(maps[0]).max())


def with_smoothing(config):
    return dataclasses.replace(config, smoothing=3.0)


def test_rounds_and_until_count_what_they_took():
    model, images = tiny_model(), jax.random.normal(KEY, (1, 16, 16, 3))
    options = {"key": KEY, "raw": True}
    for found, bare in zip(
        *(dave.explain_rounds(model, images, [0], config=config, round_size=2, **options) for config in (with_smoothing(CONFIG), CONFIG)),
        strict=True,
    ):
        expected = smooth_attribution(bare.maps[0], images[0], 3.0, bare.num_samples)
        np.testing.assert_allclose(found.maps[0], expected, atol=1e-4 * float(jnp.abs(expected).max()))
    one, other = (
        dave.explain_until(model, images, [0], config=config, tolerance=0.0, max_rounds=3, **options)
        for config in (with_smoothing(CONFIG), CONFIG)
    )
    expected = smooth_attribution(other.maps[0], images[0], 3.0, 18)
    np.testing.assert_allclose(one.maps[0], expected, atol=1e-4 * float(jnp.abs(expected).max()))
    np.testing.assert_array_equal(one.standard_error, other.standard_error)


def test_networks_of_made_channels_refuse_it():
    config = BcosViTConfig(patch_size=(4, 4), width=8, depth=1, num_heads=2, mlp_width=16, num_classes=3)
    model = dave.Model(init_params(KEY, config), BcosViT(config), preprocessing=dave.Preprocessing((8, 8)))
    with pytest.raises(ValueError, match=r"a BcosViT sees channels made of it.*Leave smoothing out"):
        dave.explain(model, jnp.ones((1, 8, 8, 3)), [0], key=KEY, config=with_smoothing(CONFIG))


def test_a_negative_length_is_refused():
    with pytest.raises(ValueError, match=r"smoothing must lie in \[0, 1000\]; got -1"):
        dave.DaveConfig(smoothing=-1)
