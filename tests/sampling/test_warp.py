"""The warp against a slow twin, and its laws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.sampling.transforms import about_centre, rotation, stretch, translation
from dave_jax.sampling.warp import inverse_affine, warp


def slow_warp(image, matrix):
    """Bilinear by the definition: a loop over output pixels and their four neighbours."""
    height, width, _ = image.shape
    inverse = np.linalg.inv(matrix)
    output = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            x, y, _ = inverse @ [column, row, 1.0]
            for i in (math.floor(x), math.floor(x) + 1):
                for j in (math.floor(y), math.floor(y) + 1):
                    if 0 <= i < width and 0 <= j < height:
                        output[row, column] += (1 - abs(x - i)) * (1 - abs(y - j)) * image[j, i]
    return output


MATRICES = {
    "identity": lambda: jnp.eye(3),
    "turn, shrink and shift": lambda: translation(1.3, -0.7) @ about_centre(rotation(17.0) @ stretch(0.8, 0.8), 9, 12),
    "grow": lambda: about_centre(stretch(1.7, 1.4), 9, 12),
    "shear": lambda: jnp.array([[1.0, 0.4, -1.0], [0.1, 0.9, 0.5], [0.0, 0.0, 1.0]]),
    "far away": lambda: translation(100.0, 3.0),
}


@pytest.mark.parametrize("name", MATRICES)
def test_equals_slow_twin(name, key, x64):
    image = jax.random.normal(key, (9, 12, 3))
    matrix = MATRICES[name]()
    assert np.allclose(warp(image, matrix), slow_warp(np.asarray(image), np.asarray(matrix)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MATRICES)
def test_adjoint(name, key, x64):
    x, y = jax.random.normal(key, (2, 9, 12, 3))
    matrix = MATRICES[name]()
    moved, pull = jax.vjp(lambda x: warp(x, matrix), x)
    assert jnp.allclose(jnp.vdot(moved, y), jnp.vdot(x, pull(y)[0]), rtol=0, atol=1e-11)


def test_flip_is_exact(key):
    image = jax.random.normal(key, (5, 8, 3))
    assert jnp.array_equal(warp(image, about_centre(stretch(-1.0, 1.0), 5, 8)), image[:, ::-1])


def test_quarter_turn_is_clockwise(key):
    image = jax.random.normal(key, (7, 7, 1))
    turned = warp(image, about_centre(rotation(90.0), 7, 7))
    assert jnp.allclose(turned, jnp.rot90(image, -1), atol=1e-5)  # the cosine of 90 degrees is 4e-8 in float32


def test_zeros_come_in_from_outside(key):
    image = jax.random.normal(key, (5, 6, 2))
    moved = warp(image, translation(2.0, 1.0))
    assert jnp.array_equal(moved[1:, 2:], image[:-1, :-2])
    assert not moved[0].any() and not moved[:, :2].any()


def test_inverse_affine(x64):
    matrix = MATRICES["shear"]()
    assert jnp.allclose(inverse_affine(matrix) @ matrix, jnp.eye(3), rtol=0, atol=1e-14)
