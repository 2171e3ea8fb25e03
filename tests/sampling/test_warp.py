"""The warp against a slow twin, and its laws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.sampling.transforms import about_centre, rotation, stretch, translation
from dave_jax.sampling.warp import WIDEST, inverse_affine, reach, warp, warp_gathering


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


@pytest.mark.parametrize("name", MATRICES)
def test_gathering_adjoint_is_the_scattering_one(name, key, x64):
    x, y = jax.random.normal(key, (2, 9, 12, 3))
    matrix = MATRICES[name]()
    moved, pull = jax.vjp(lambda x: warp(x, matrix), x)
    again, gather = jax.vjp(lambda x: warp_gathering(x, matrix), x)
    assert jnp.array_equal(moved, again)
    np.testing.assert_allclose(gather(y)[0], pull(y)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("move", [warp, warp_gathering])
def test_adjoint_of_nearly_whole_places(move, key, x64):
    """A program may round places twice, differently: weights and indices must be of the same. Only optimised programs do: see .ci/run."""
    y = jax.random.normal(key, (96, 96, 1), jnp.float32)
    shifts = np.random.default_rng(0).uniform(-9.0, 9.0, (100, 2))
    turn = about_centre(rotation(20.0) @ stretch(-1.05, 1.05), 96, 96)
    matrices = jnp.stack([translation(*shift) @ turn for shift in shifts]).astype(jnp.float32)

    def pull(matrices, y):
        return jax.vmap(lambda matrix: jax.vjp(lambda x: move(x, matrix), y)[1](y)[0])(matrices)

    difference = jax.jit(pull)(matrices, y).astype(float) - pull(matrices.astype(float), y.astype(float))
    assert float(jnp.abs(difference).max()) < 2e-4  # places are known to some 1e-5 of a pixel


def test_gathering_adjoint_up_to_its_reach(key, x64):
    """Exact at the reach that `fitted` allows, whatever the angle, and wrong beyond it."""
    y = jax.random.normal(key, (24, 24, 1))

    def difference(angle, scale):
        matrix = translation(0.37, -0.21) @ about_centre(rotation(angle) @ stretch(scale, scale), 24, 24)
        pulls = (jax.vjp(lambda x, move=move: move(x, matrix), y)[1](y)[0] for move in (warp, warp_gathering))
        return float(jnp.abs(next(pulls) - next(pulls)).max())

    for angle in (0.0, 13.0, 45.0, 100.0):
        exact = WIDEST / reach(angle % 90 if angle % 90 <= 45 else 90 - angle % 90, 1.0)
        assert difference(angle, 0.999 * exact) < 1e-12
    assert difference(0.0, 2.5) > 0.01


def test_gathering_warp_has_no_scatter(key):
    image = jax.random.normal(key, (8, 8, 3))
    turn = rotation(3.0)
    program = jax.jit(lambda x: jax.vjp(lambda x: warp_gathering(x, turn), x)[1](x)[0]).lower(image).as_text()
    assert "gather" in program and "scatter" not in program


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


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_rounds_values_and_not_places(dtype, key):
    """Past 256 pixels bfloat16 has no odd numbers: coordinates and indices must not be in it."""
    image = jax.random.normal(key, (300, 300, 1)).astype(dtype)
    matrix = translation(3.0, 0.0)
    for move in (warp, warp_gathering):
        moved, pull = jax.vjp(lambda image, move=move: move(image, matrix), image)
        assert moved.dtype == dtype
        assert jnp.array_equal(moved[:, 3:], image[:, :-3])
        assert jnp.array_equal(pull(moved)[0][:, :-3], image[:, :-3])
