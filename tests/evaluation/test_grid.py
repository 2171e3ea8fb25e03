import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.evaluation.grid import grid_pointing_game, mosaic


@pytest.mark.parametrize("n", [1, 2, 3])
def test_each_image_lies_in_its_own_cell(key, n):
    images = jax.random.normal(key, (n * n, 4, 6, 3))
    picture = mosaic(images)
    assert picture.shape == (4 * n, 6 * n, 3)
    for cell, image in enumerate(images):
        row, column = divmod(cell, n)
        assert np.array_equal(picture[4 * row : 4 * row + 4, 6 * column : 6 * column + 6], image)


@pytest.mark.parametrize("n", [2, 3])
def test_a_map_of_one_cell_scores_there_alone(key, n):
    """The metric and the mosaic number the cells alike."""
    for cell in range(n * n):
        images = jnp.zeros((n * n, 4, 6, 3)).at[cell].set(jax.random.uniform(key, (4, 6, 3)))
        maps = jnp.broadcast_to(mosaic(images).sum(-1), (n * n, 4 * n, 6 * n))
        assert np.array_equal(grid_pointing_game(maps, jnp.arange(n * n), n), np.arange(n * n) == cell)


def test_scores_of_the_cells_sum_to_one(key):
    maps = jnp.broadcast_to(jax.random.normal(key, (5, 1, 6, 6)), (5, 9, 6, 6))
    cells = jnp.broadcast_to(jnp.arange(9), (5, 9))
    scores = grid_pointing_game(maps, cells, 3)
    assert scores.shape == (5, 9)
    assert np.allclose(scores.sum(-1), 1.0, atol=1e-6)  # a few float32 roundings
    even = grid_pointing_game(jnp.ones((9, 6, 6)), jnp.arange(9), 3)
    assert np.allclose(even, 1 / 9, atol=1e-7)


def test_only_what_is_positive_counts():
    one = jnp.array([[2.0, -5.0], [1.0, 1.0]])
    assert grid_pointing_game(jnp.stack([one, one, -jnp.abs(one)]), jnp.array([0, 1, 0])).tolist() == [0.5, 0.0, 0.0]


def test_it_can_be_compiled(key):
    maps, cells = jax.random.normal(key, (3, 4, 4)), jnp.array([0, 3, 1])
    assert np.allclose(jax.jit(grid_pointing_game)(maps, cells), grid_pointing_game(maps, cells), atol=1e-6)


def test_bad_mosaics():
    with pytest.raises(ValueError, match=r"n \* n images .* got 3"):
        mosaic(jnp.zeros((3, 2, 2, 3)))
    with pytest.raises(ValueError, match="got 0"):
        mosaic(jnp.zeros((0, 2, 2, 3)))
    with pytest.raises(ValueError, match=r"divide into n = 2 .* got 5 x 4"):
        grid_pointing_game(jnp.zeros((1, 5, 4)), jnp.array([0]))
    with pytest.raises(ValueError, match=r"0 to 3.* got \[-1, 4\]"):
        grid_pointing_game(jnp.zeros((3, 4, 4)), jnp.array([4, -1, 2]))
