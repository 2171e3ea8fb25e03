"""Position embeddings at another image size."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def resample_positions(
    embedding: Float[Array, "tokens width"] | np.ndarray,
    grid: tuple[int, int],
    *,
    num_prefix: int,
    old_grid: tuple[int, int] | None = None,
) -> Float[Array, "new_tokens width"] | np.ndarray:
    """Resample a learned position embedding to another grid of patches, as timm does.

    Bicubic (Keys, a = -1/2) with antialiasing, in float32; the rows of prefix tokens are kept.

    Args:
        embedding: prefix rows, then one row a patch, row by row.
        grid: the new rows and columns of patches.
        num_prefix: rows in front that belong to no patch.
        old_grid: the rows and columns of patches that the embedding is for; None takes `grid` itself if it has as many, else a square.

    Returns:
        The embedding itself if its grid is `grid` already; of the type that came (NumPy or JAX).

    Raises:
        ValueError: the rows behind the prefix do not make the old grid.

    Example:
        >>> resample_positions(np.ones((1 + 16, 8), np.float32), (2, 2), num_prefix=1).shape
        (5, 8)
    """
    patches = embedding.shape[0] - num_prefix
    if old_grid is None:
        side = math.isqrt(max(patches, 0))
        old_grid = grid if patches == grid[0] * grid[1] else (side, side)
    if old_grid[0] * old_grid[1] != patches or patches < 1:
        raise ValueError(
            f"a position embedding for {old_grid} patches (a square, where the grid is not told) must have "
            f"{old_grid[0] * old_grid[1]} rows behind its {num_prefix} prefix rows, got {patches}"
        )
    if old_grid == grid:
        return embedding
    width = embedding.shape[1]
    rows = jnp.asarray(embedding[num_prefix:], jnp.float32).reshape(*old_grid, width)
    resampled = jax.image.resize(rows, (*grid, width), "cubic", antialias=True).reshape(-1, width)
    if isinstance(embedding, np.ndarray):
        return np.concatenate([embedding[:num_prefix], np.asarray(resampled)])
    return jnp.concatenate([embedding[:num_prefix], resampled.astype(embedding.dtype)])


def check_tiling(image_size: tuple[int, int], patch_size: tuple[int, int]) -> None:
    """Check that patches tile an image.

    Raises:
        ValueError: they do not; the message names the nearest sizes.

    Example:
        >>> check_tiling((224, 336), (16, 16))
    """
    if all(edge > 0 and edge % step == 0 for edge, step in zip(image_size, patch_size, strict=True)):
        return
    below = tuple(max(edge // step, 1) * step for edge, step in zip(image_size, patch_size, strict=True))
    above = tuple(edge + step for edge, step in zip(below, patch_size, strict=True))
    raise ValueError(
        f"image_size (height, width) must be a multiple of the patch size {patch_size}; got {image_size}. "
        f"The nearest are {below} and {above}: pass one as image_size."
    )
