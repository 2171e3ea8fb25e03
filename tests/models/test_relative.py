"""Relative position bias: which entry belongs to which tokens, and tables at another image size."""

import jax.numpy as jnp
import numpy as np
import pytest
from place_twins import entry

from dave_jax.models.relative import EXTRA, num_entries, relative_bias, relative_index, resample_relative

WAYS = ("antialiased", "bicubic")


def table(grid, *blocks, heads=2, seed=0):
    return np.random.default_rng(seed).standard_normal((*blocks, num_entries(grid), heads)).astype(np.float32)


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 5), (4, 2)], ids=str)
def test_the_bias_equals_a_loop_over_pairs(grid):
    values, count = table(grid), 1 + grid[0] * grid[1]
    bias = relative_bias(jnp.asarray(values), grid)
    assert bias.shape == (2, count, count)
    for query in range(count):
        for key in range(count):
            np.testing.assert_array_equal(bias[:, query, key], values[entry(grid, query, key)])
    assert set(relative_index(grid).ravel()) == set(range(num_entries(grid)))  # none is in vain


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("grid", [(6, 6), (2, 3), (7, 4), (1, 1)], ids=str)
def test_laws_of_resampling(grid, way):
    old = (4, 4)
    options = {"old_grid": old, "resampling": way}
    constant = resample_relative(np.full((num_entries(old), 2), 3.0, np.float32), grid, **options)
    np.testing.assert_allclose(constant, 3.0, rtol=1e-6)
    values = table(old, 3)
    result = resample_relative(values, grid, **options)
    np.testing.assert_array_equal(result[:, -EXTRA:], values[:, -EXTRA:])  # the class token's
    for block in range(3):  # each block alone
        np.testing.assert_array_equal(result[block], resample_relative(values[block], grid, **options))
    turned = np.concatenate([values[:, :-EXTRA][:, ::-1], values[:, -EXTRA:]], axis=1)  # query and key exchanged
    np.testing.assert_allclose(resample_relative(turned, grid, **options)[:, :-EXTRA], result[:, :-EXTRA][:, ::-1], rtol=0, atol=1e-5)
    assert isinstance(resample_relative(jnp.asarray(values), grid, **options), jnp.ndarray)


def test_near_differences_keep_their_values_on_a_larger_grid():
    """BEiT's spacing: 0 and 1 are sampled as they were; the outermost stay outermost."""
    old, new = (5, 5), (9, 9)
    values = table(old, heads=1)
    before, after = values[:-EXTRA, 0].reshape(9, 9), resample_relative(values, new, old_grid=old)[:-EXTRA, 0].reshape(17, 17)
    np.testing.assert_allclose(after[7:10, 7:10], before[3:6, 3:6], rtol=0, atol=1e-5)
    np.testing.assert_allclose(after[::16, ::16], before[::8, ::8], rtol=0, atol=1e-4)  # the factor is found to 1e-6


def test_linear_resampling_of_a_line_is_a_line():
    old, new = (4, 4), (8, 8)
    line = np.repeat(np.arange(7.0), 7)
    values = np.concatenate([line, np.zeros(EXTRA)])[:, None].astype(np.float32)
    rows = resample_relative(values, new, old_grid=old, resampling="bicubic")[:-EXTRA, 0].reshape(15, 15)[:, 0]
    np.testing.assert_allclose(rows[2:-2], (np.arange(15)[2:-2] + 0.5) * 7 / 15 - 0.5, rtol=0, atol=1e-5)


def test_the_old_grid_is_a_square_unless_told():
    values = table((4, 4))
    assert resample_relative(values, (4, 4)) is values
    np.testing.assert_array_equal(resample_relative(values, (3, 5)), resample_relative(values, (3, 5), old_grid=(4, 4)))
    oblong = table((3, 5))
    assert resample_relative(oblong, (3, 5)) is oblong
    with pytest.raises(ValueError, match=r"\(2 rows - 1\) \(2 columns - 1\) \+ 3 = 28 entries; got 48"):
        resample_relative(oblong, (2, 2))
    with pytest.raises(ValueError, match="got 2"):
        resample_relative(oblong[:2], (2, 2))
