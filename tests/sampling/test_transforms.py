import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.config import DaveConfig
from dave_jax.sampling.transforms import Transform, apply_transform, padding, pull_back, sample_transform
from dave_jax.sampling.warp import warp

STILL = DaveConfig(flip_probability=0.0, rotation=0.0, shift=0.0, scale_min=1.0, scale_max=1.0)


def _draw(config, count=2000, size=(20, 30)):
    keys = jax.random.split(jax.random.key(1), count)
    return np.asarray(jax.vmap(lambda key: sample_transform(key, config, *size).matrix)(keys))


def test_matrices_are_composed_at_full_precision():
    """An accelerator's products of float32 have 8 or 11 bits by default: a flip would shift by a pixel."""
    config = dataclasses.replace(STILL, random_padding=True)
    jaxpr = jax.make_jaxpr(lambda key: sample_transform(key, config, 20, 30).matrix)(jax.random.key(0))
    products = [equation for equation in jaxpr.eqns if equation.primitive.name == "dot_general"]
    assert len(products) >= 6 and all(equation.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2 for equation in products)


def test_ranges():
    config = dataclasses.replace(STILL, rotation=20.0, scale_min=0.9, scale_max=1.1)
    matrices = _draw(config)
    angles = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    scales = np.sqrt(np.linalg.det(matrices[:, :2, :2]))
    assert -20 <= angles.min() < -19.5 and 19.5 < angles.max() <= 20
    assert 0.9 - 1e-6 <= scales.min() < 0.905 and 1.095 < scales.max() <= 1.1 + 1e-6
    centre = np.array([14.5, 9.5, 1.0])
    assert np.allclose(matrices @ centre, centre, atol=1e-4)


def test_shift_is_a_share_of_each_side():
    shifts = _draw(dataclasses.replace(STILL, shift=0.1))[:, :2, 2]
    assert np.allclose(np.abs(shifts).max(0), [3.0, 2.0], atol=0.05)
    assert np.abs(np.corrcoef(shifts.T)[0, 1]) < 0.1


def test_flip_probability():
    flipped = _draw(dataclasses.replace(STILL, flip_probability=0.25))[:, 0, 0] < 0
    assert abs(flipped.mean() - 0.25) < 0.04  # four standard errors of 2000 draws


def test_padding_leaves_a_zero_border():
    image = jnp.ones((8, 8, 1))
    padded = warp(image, padding(2.0, 0.0, 2.0, 0.0, 8, 8))[..., 0]
    assert not padded[:2].any() and not padded[:, :2].any()
    assert jnp.allclose(padded[3:-1, 3:-1], 1.0, atol=1e-6)


@pytest.mark.parametrize("switch", ["random_padding", "random_blur"])
def test_padding_and_blur_change_the_image(switch, key):
    image = jax.random.normal(key, (12, 12, 3))
    config = dataclasses.replace(STILL, **{switch: True}, padding=0.2, blur=1.5)
    moved = apply_transform(sample_transform(key, config, 12, 12), image)
    assert float(jnp.abs(moved - image).max()) > 0.1
    assert float(jnp.var(moved)) < float(jnp.var(image))


def test_pull_back_is_adjoint(key, x64):
    x, y = jax.random.normal(key, (2, 12, 12, 3))
    config = dataclasses.replace(DaveConfig(), random_padding=True, random_blur=True)
    transform = sample_transform(key, config, 12, 12)
    assert jnp.allclose(jnp.vdot(apply_transform(transform, x), y), jnp.vdot(x, pull_back(transform, y)), rtol=0, atol=1e-11)


def test_adjoint_and_inverse_agree_for_a_flip_and_not_for_a_scale(key):
    y = jax.random.normal(key, (8, 8, 3))
    flip = Transform(jnp.array([[-1.0, 0.0, 7.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    assert jnp.allclose(pull_back(flip, y, "adjoint"), pull_back(flip, y, "inverse"), atol=1e-6)
    double = Transform(jnp.diag(jnp.array([2.0, 2.0, 1.0])))
    ones = jnp.ones((8, 8, 1))
    inner = (slice(1, 3), slice(1, 3))
    assert jnp.allclose(pull_back(double, ones, "adjoint")[inner], 4.0, atol=1e-5)  # s^2 times denser
    assert jnp.allclose(pull_back(double, ones, "inverse")[inner], 1.0, atol=1e-5)
