"""Relative position bias (BEiT, arXiv 2106.08254): a number added to each attention score by how far apart query and key are.

For a grid of h x w patches and a class token in front of them, a table (entries, heads) has (2h - 1)(2w - 1) entries for the differences
between places, rows of query minus key first, and three more: class token to patch, patch to class token, class token to itself. Within a
window (Swin, arXiv 2103.14030) there is no class token, and its three are absent.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

EXTRA = 3
"""The entries behind those of the grid, where there is a class token."""


def num_entries(grid: tuple[int, int], *, class_token: bool = True) -> int:
    """The length of the table for a grid, with a class token in front of it or without.

    Example:
        >>> num_entries((14, 14))
        732
        >>> num_entries((7, 7), class_token=False)
        169
    """
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + EXTRA * class_token


def relative_index(grid: tuple[int, int], *, class_token: bool = True) -> Integer[np.ndarray, "queries keys"]:
    """The entry for each query and key, the class token first if there is one.

    Example:
        >>> relative_index((1, 2)).tolist()
        [[5, 3, 3], [4, 1, 0], [4, 2, 1]]
    """
    (rows, columns), last = grid, num_entries(grid)
    places = np.stack(np.divmod(np.arange(rows * columns), columns))
    down, across = places[:, :, None] - places[:, None] + np.array([rows - 1, columns - 1])[:, None, None]
    index = np.full((rows * columns + 1,) * 2, last - 3)
    index[:, 0] = last - 2
    index[0, 0] = last - 1
    index[1:, 1:] = down * (2 * columns - 1) + across
    return index if class_token else index[1:, 1:]


def relative_bias(
    table: Float[Array, "entries heads"], grid: tuple[int, int], *, class_token: bool = True
) -> Float[Array, "heads queries keys"]:
    """What is added to the attention scores."""
    return jnp.moveaxis(table[relative_index(grid, class_token=class_token)], -1, 0)


def _geometric(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """The old differences are spread so that their distances grow by one factor, the outermost where the new ones end; linear between."""
    half, reach = old // 2, new // 2
    low, high, factor = 1.01, 1.5, 1.01
    while high - low > 1e-6:
        factor = (low + high) / 2
        low, high = (low, factor) if (1 - factor**half) / (1 - factor) > reach else (factor, high)
    distances = np.cumsum(factor ** np.arange(half))
    return _between(np.concatenate([-distances[::-1], [0.0], distances]), np.arange(-reach, reach + 1))


def _linear(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Evenly spread, the samples half a step apart from the borders."""
    return _between(np.arange(old), (np.arange(new) + 0.5) * old / new - 0.5)


def _between(points: np.ndarray, wanted: np.ndarray) -> Float[np.ndarray, "new old"]:
    """The weights of linear interpolation, constant outside."""
    return np.stack([np.interp(wanted, points, unit) for unit in np.eye(len(points))], axis=1).astype(np.float32)


_RESAMPLINGS = {"antialiased": _geometric, "bicubic": _linear}
"""By the names that `positions.RESAMPLINGS` has for the two libraries, timm and transformers."""


def resample_relative(
    table: Float[Array, "*blocks entries heads"] | np.ndarray,
    grid: tuple[int, int],
    *,
    old_grid: tuple[int, int] | None = None,
    resampling: str = "antialiased",
    class_token: bool = True,
) -> Float[Array, "*blocks new_entries heads"] | np.ndarray:
    """Resample tables to another grid of patches, in float32; the entries of the class token are kept.

    timm's way (`antialiased`, the name of what goes with it for position embeddings) is BEiT's: near differences keep their spacing and
    far ones are spread. transformers' (`bicubic`) is linear on evenly spread samples.

    Args:
        table: of one block, or of several.
        grid: the new rows and columns of patches.
        old_grid: those that the table is for; None takes `grid` itself if the length fits, else a square.
        resampling: whose way.
        class_token: whether the last three entries are a class token's.

    Returns:
        The table itself if its grid is `grid` already; of the type that came (NumPy or JAX).

    Raises:
        ValueError: the entries do not make the old grid.

    Example:
        >>> resample_relative(np.ones((12, num_entries((4, 4)), 2), np.float32), (3, 5)).shape
        (12, 48, 2)
    """
    *blocks, entries, heads = table.shape
    extra = EXTRA * class_token
    if old_grid is None:
        side = (math.isqrt(max(entries - extra, 0)) + 1) // 2
        old_grid = grid if entries == num_entries(grid, class_token=class_token) else (side, side)
    wanted = num_entries(old_grid, class_token=class_token)
    if min(old_grid) < 1 or entries != wanted:
        raise ValueError(
            f"a relative position table for {old_grid} patches (a square, where the grid is not told) must have "
            f"(2 rows - 1) (2 columns - 1) + {extra} = {wanted} entries; got {entries}"
        )
    if old_grid == grid:
        return table
    down, across = (_RESAMPLINGS[resampling](2 * old - 1, 2 * new - 1) for old, new in zip(old_grid, grid, strict=True))
    array = np.asarray(table, np.float32)
    places, others = array[..., : entries - extra, :], array[..., entries - extra :, :]
    places = places.reshape(*blocks, 2 * old_grid[0] - 1, 2 * old_grid[1] - 1, heads)
    resampled = np.einsum("iy,jx,...yxh->...ijh", down, across, places, optimize=True).reshape(*blocks, -1, heads)
    result = np.concatenate([resampled, others], axis=-2)
    return result if isinstance(table, np.ndarray) else jnp.asarray(result, table.dtype)
