"""The floors: what each is, computed another way."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from small_model import small_model

from dave_jax.attribution.baselines.floors import LUMINANCE, CentreMap, EdgeMap, RandomMap
from dave_jax.models.preprocess import Preprocessing

KEY = jax.random.key(7)


def test_random_map_is_uniform_and_another_for_every_target_and_image():
    images = jax.random.normal(jax.random.key(3), (3, 16, 16, 3))
    maps = RandomMap()(small_model(), images, [[0, 1]] * 3, key=KEY, raw=True)
    assert abs(float(maps.mean()) - 0.5) < 4 / np.sqrt(12 * maps.size) and 0.0 <= float(maps.min()) and float(maps.max()) < 1.0
    correlation = np.corrcoef(np.asarray(maps).reshape(6, -1)) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(256)


def test_edge_map_is_sobels():
    """By a loop over pixels, on the photograph that normalisation is undone for; a number added to a channel changes nothing."""
    same = small_model((8, 12))
    model = dataclasses.replace(same, preprocessing=Preprocessing(image_size=(8, 12), std=(0.5, 1.0, 2.0)))
    image = np.asarray(jax.random.normal(jax.random.key(3), (8, 12, 3)))
    grey = np.pad((image * np.array([0.5, 1.0, 2.0])) @ np.array(LUMINANCE), 1, mode="edge")
    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    expected = np.zeros((8, 12))
    for row in range(8):
        for column in range(12):
            part = grey[row : row + 3, column : column + 3]
            expected[row, column] = np.hypot((part * across).sum(), (part * across.T).sum())
    np.testing.assert_allclose(EdgeMap()(model, image[None], [[0, 1]], raw=True)[0], [expected] * 2, atol=1e-5)
    np.testing.assert_allclose(EdgeMap(std=(0.5, 1.0, 2.0))(same, image[None], [0], raw=True)[0], expected, atol=1e-5)


def test_centre_map_is_a_gaussian_in_shares_of_the_size():
    found = CentreMap(0.2)(small_model((16, 24)), jnp.ones((1, 16, 24, 3)), [0], raw=True)[0]
    y, x = np.meshgrid((np.arange(16) - 7.5) / 16, (np.arange(24) - 11.5) / 24, indexing="ij")
    np.testing.assert_allclose(found, np.exp(-(x**2 + y**2) / 0.08), atol=1e-6)
    np.testing.assert_array_equal(found, found[::-1, ::-1])
