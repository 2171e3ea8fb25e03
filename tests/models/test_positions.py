"""Position embeddings on another grid: the laws of interpolation, and the weights written out."""

import jax.numpy as jnp
import numpy as np
import pytest

from dave_jax.models.positions import RESAMPLINGS, check_tiling, resample_positions


def embedding(tokens, width=3, seed=0):
    return np.random.default_rng(seed).normal(size=(tokens, width)).astype(np.float32)


def weights_written_out(resampling, old, new):
    """(new, old): Keys's kernel. Antialiased a = -1/2, widened where the grid shrinks and cut at the border, each row summing to one; else
    a = -3/4, of one width, and what lies outside is the border's; or straight lines."""
    if resampling == "corners":  # each new place between the two old ones around it
        rows = np.eye(old)
        places = [i * (old - 1) / max(new - 1, 1) for i in range(new)]
        return np.stack([np.array([np.interp(place, np.arange(old), column) for column in rows.T]) for place in places])
    if resampling == "bicubic":
        weights, a = np.zeros((new, old)), -0.75
        for i in range(new):
            centre = (i + 0.5) * old / new - 0.5
            for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
                x = abs(centre - j)
                value = (a + 2) * x**3 - (a + 3) * x**2 + 1 if x < 1 else a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
                weights[i, min(max(j, 0), old - 1)] += value
        return weights
    stretch = max(1.0, old / new)
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    x = np.abs(centres[:, None] - np.arange(old)) / stretch
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("grid", [(6, 6), (2, 3), (4, 9), (9, 2), (1, 1)], ids=str)
@pytest.mark.parametrize("old_grid", [(4, 4), (3, 5)], ids=str)
@pytest.mark.parametrize("resampling", RESAMPLINGS)
def test_equals_the_weights_written_out(old_grid, grid, resampling):
    rows = embedding(2 + old_grid[0] * old_grid[1])
    down, across = (weights_written_out(resampling, old, new) for old, new in zip(old_grid, grid, strict=True))
    expected = np.einsum("iy,jx,yxc->ijc", down, across, rows[2:].reshape(*old_grid, 3))
    resampled = resample_positions(rows, grid, num_prefix=2, old_grid=old_grid, resampling=resampling)
    np.testing.assert_allclose(resampled[2:].reshape(*grid, 3), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("old_grid", [None, (4, 4)], ids=str)
def test_the_same_grid_changes_nothing(old_grid):
    rows = embedding(17)
    assert resample_positions(rows, (4, 4), num_prefix=1, old_grid=old_grid) is rows


def test_without_an_old_grid_the_new_one_goes_before_a_square():
    rows = embedding(36)
    assert resample_positions(rows, (4, 9), num_prefix=0) is rows
    np.testing.assert_array_equal(
        resample_positions(rows, (2, 3), num_prefix=0), resample_positions(rows, (2, 3), num_prefix=0, old_grid=(6, 6))
    )


@pytest.mark.parametrize("grid", [(7, 5), (2, 3)], ids=str)
def test_constants_are_kept(grid):
    """At the border too, where the kernel is cut."""
    rows = np.tile(np.array([1.0, -2.0, 3e3], np.float32), (16, 1))
    resampled = resample_positions(rows, grid, num_prefix=0)
    np.testing.assert_allclose(resampled, np.tile(rows[:1], (grid[0] * grid[1], 1)), rtol=1e-6)


def test_ramps_are_kept_away_from_the_border():
    """Cubic interpolation is exact on straight lines: from 8 to 16, positions lie at quarters."""
    ramp = np.tile(np.arange(8, dtype=np.float32)[:, None], (8, 1))  # the column of each patch
    resampled = resample_positions(ramp, (8, 16), num_prefix=0).reshape(8, 16)
    np.testing.assert_allclose(resampled[:, 4:12], np.tile((np.arange(16) / 2 - 0.25)[4:12], (8, 1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", [(7, 5), (2, 3)], ids=str)
def test_linear_in_the_embedding(grid):
    one, other = embedding(18), embedding(18, seed=1)
    resample = lambda rows: resample_positions(rows, grid, num_prefix=2)
    np.testing.assert_allclose(resample(2 * one - other), 2 * resample(one) - resample(other), rtol=0, atol=1e-5)


def test_rows_and_columns_are_alike():
    rows = embedding(20).reshape(4, 5, 3)
    turned = rows.transpose(1, 0, 2).reshape(20, 3)
    resampled = resample_positions(rows.reshape(20, 3), (3, 8), num_prefix=0, old_grid=(4, 5)).reshape(3, 8, 3)
    expected = resample_positions(turned, (8, 3), num_prefix=0, old_grid=(5, 4)).reshape(8, 3, 3).transpose(1, 0, 2)
    np.testing.assert_allclose(resampled, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_prefix_rows_and_type_are_kept(kind):
    rows = kind(embedding(19))
    resampled = resample_positions(rows, (2, 2), num_prefix=3)
    assert type(resampled) is type(rows) and resampled.shape == (7, 3) and resampled.dtype == np.float32
    np.testing.assert_array_equal(resampled[:3], rows[:3])


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (13, {"num_prefix": 1}, r"\(3, 3\) patches \(a square.*9 rows behind its 1 prefix rows, got 12"),
        (17, {"num_prefix": 1, "old_grid": (3, 5)}, r"\(3, 5\) patches.*15 rows.*got 16"),
        (1, {"num_prefix": 1}, "got 0"),
        (1, {"num_prefix": 2}, "got -1"),
    ],
    ids=str,
)
def test_rows_that_make_no_grid(tokens, options, message):
    with pytest.raises(ValueError, match=message):
        resample_positions(embedding(tokens), (2, 2), **options)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [((225, 224), "(224, 224) and (240, 240)"), ((8, 40), "(16, 32) and (32, 48)"), ((-16, 16), "(16, 16) and (32, 32)")],
    ids=str,
)
def test_patches_that_do_not_tile(size, nearest):
    with pytest.raises(ValueError) as error:
        check_tiling(size, (16, 16))
    assert nearest in str(error.value)
