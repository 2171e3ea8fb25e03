import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.evaluation.grid import explain_mosaic, grid_pointing_game, mosaic
from dave_jax.evaluation.localisation import smooth
from dave_jax.models.resize import at_image_size


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
    scores = grid_pointing_game(jnp.stack([one, one, -jnp.abs(one)]), jnp.array([0, 1, 0]))
    assert np.array_equal(scores, [0.5, 0.0, np.nan], equal_nan=True)  # without positive mass: not defined


def test_it_can_be_compiled(key):
    maps, cells = jax.random.normal(key, (3, 4, 4)), jnp.array([0, 3, 1])
    assert np.allclose(jax.jit(grid_pointing_game)(maps, cells), grid_pointing_game(maps, cells), atol=1e-6)


def test_smoothing_comes_first(key):
    maps = jax.random.normal(key, (4, 6, 6))
    expected = grid_pointing_game(smooth(maps, 3), jnp.arange(4))
    assert np.allclose(grid_pointing_game(maps, jnp.arange(4), smoothing=3), expected, atol=1e-7)


def attribute(model, images, targets):
    return InputTimesGradient()(model, images, targets, raw=True)


def weighted(model, images, targets):
    """Maps that depend on the window's content, on the target and on the place in the window, of any model."""
    place = np.random.default_rng(0).standard_normal((5, 16, 16)).astype(np.float32)
    return np.asarray(images)[:, None, ..., 0] ** 2 * place[np.asarray(targets)]


@pytest.fixture(scope="module")
def tiny():
    return dave.testing.tiny_model()


@pytest.fixture
def picture(key):
    return jax.random.normal(key, (32, 32, 3))


def test_interpolate_is_the_model_at_the_mosaics_size(tiny, picture):
    targets = jnp.array([0, 3, 1])
    large = at_image_size(tiny, (32, 32))
    expected = attribute(large, picture[None], targets[None])[0]
    assert np.allclose(explain_mosaic(attribute, tiny, picture, targets), expected, atol=1e-6)
    assert np.allclose(explain_mosaic(attribute, large, np.asarray(picture), targets[:1]), expected[:1], atol=1e-6)


@pytest.mark.parametrize("stride", [None, (16, 4)])
def test_stride_adds_up_the_maps_of_windows(tiny, picture, stride):
    """Against the protocol in a loop: every window alone."""
    targets = jnp.array([0, 3])
    down, across = stride or (8, 8)
    padded = np.pad(np.asarray(picture), ((down, down), (across, across), (0, 0)))
    total = np.zeros((2, *padded.shape[:2]), np.float32)
    windows = 0
    for row in range(0, padded.shape[0] - 15, down):
        for column in range(0, padded.shape[1] - 15, across):
            seen = padded[None, row : row + 16, column : column + 16]
            total[:, row : row + 16, column : column + 16] += weighted(tiny, seen, targets[None])[0]
            windows += 1
    assert windows == (25 if stride is None else 4 * 7)
    found = explain_mosaic(weighted, tiny, picture, targets, grid_mode="stride", stride=stride)
    np.testing.assert_allclose(found, total[:, down:-down, across:-across], atol=2e-6 * np.abs(total).max())  # the order of sums differs


def test_every_pixel_is_in_as_many_windows(tiny, picture):
    """Windows every half of their size, with a border as wide: four windows hold a pixel."""
    count = explain_mosaic(lambda model, images, targets: jnp.ones((len(images), 1, 16, 16)), tiny, picture, [0], grid_mode="stride")
    assert (count == 4.0).all()


def test_cells_can_be_permuted_where_windows_are_cells(tiny, key):
    """With windows that are the cells, a class's map moves with its photograph."""
    images, order = jax.random.normal(key, (4, 16, 16, 3)), np.array([2, 0, 3, 1])
    score = lambda images: grid_pointing_game(
        explain_mosaic(weighted, tiny, mosaic(images), [0, 1, 2, 3], grid_mode="stride", stride=(16, 16)),
        jnp.asarray(cells),
    )
    cells = np.arange(4)
    before = score(images)
    cells = np.argsort(order)
    np.testing.assert_allclose(score(images[order]), before, atol=1e-6)


def test_bad_pictures(tiny, picture):
    with pytest.raises(ValueError, match=r"must tile a mosaic of \(32, 32\)"):
        explain_mosaic(attribute, tiny, picture, [0], grid_mode="stride", stride=(8, 5))
    with pytest.raises(ValueError, match=r"signed maps of shape \(1, 1, 32, 32\), channels summed; got \(1, 32, 32, 3\)"):
        explain_mosaic(lambda model, images, targets: images, tiny, picture, [0])
    with pytest.raises(ValueError, match=r"targets are \(k,\); got"):
        explain_mosaic(attribute, tiny, picture, [[0]])
    with pytest.raises(ValueError, match="finite"):
        explain_mosaic(attribute, tiny, picture.at[0].set(jnp.nan), [0], grid_mode="stride")


def test_bad_mosaics():
    with pytest.raises(ValueError, match=r"n \* n images .* got 3"):
        mosaic(jnp.zeros((3, 2, 2, 3)))
    with pytest.raises(ValueError, match="got 0"):
        mosaic(jnp.zeros((0, 2, 2, 3)))
    with pytest.raises(ValueError, match=r"divide into n = 2 .* got 5 x 4"):
        grid_pointing_game(jnp.zeros((1, 5, 4)), jnp.array([0]))
    with pytest.raises(ValueError, match=r"0 to 3.* got \[-1, 4\]"):
        grid_pointing_game(jnp.zeros((3, 4, 4)), jnp.array([4, -1, 2]))
