"""Position embeddings at another image size."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _antialiased(rows: Float[Array, "h w width"], grid: tuple[int, int]) -> Float[Array, "new_h new_w width"]:
    return jax.image.resize(rows, (*grid, rows.shape[2]), "cubic", antialias=True)


def _bicubic(rows: Float[Array, "h w width"], grid: tuple[int, int]) -> Float[Array, "new_h new_w width"]:
    down, across = (_cubic_weights(old, new) for old, new in zip(rows.shape[:2], grid, strict=True))
    return jnp.einsum("iy,jx,yxc->ijc", down, across, rows, precision="highest")


def _cubic_weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """What each new row takes of the old ones."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    nearest = np.floor(centres).astype(int)[:, None] + np.arange(-1, 3)
    x = np.abs(centres[:, None] - nearest)
    near, far = (1.25 * x - 2.25) * x * x + 1, ((-0.75 * x + 3.75) * x - 6) * x + 3
    weights = np.zeros((new, old))
    np.add.at(weights, (np.arange(new)[:, None], np.clip(nearest, 0, old - 1)), np.where(x <= 1, near, far))
    return weights.astype(np.float32)


def _corners(rows: Float[Array, "h w width"], grid: tuple[int, int]) -> Float[Array, "new_h new_w width"]:
    down, across = (_linear_weights(old, new) for old, new in zip(rows.shape[:2], grid, strict=True))
    return jnp.einsum("iy,jx,yxc->ijc", down, across, rows, precision="highest")


def _linear_weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """What each new row takes of the two old ones around it, the first and the last staying where they are."""
    places = np.linspace(0, old - 1, new)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(old))).astype(np.float32)


RESAMPLINGS = {"antialiased": _antialiased, "bicubic": _bicubic, "corners": _corners}
"""How to resample the patches' rows, by name."""


def resample_positions(
    embedding: Float[Array, "tokens width"] | np.ndarray,
    grid: tuple[int, int],
    *,
    num_prefix: int,
    old_grid: tuple[int, int] | None = None,
    resampling: str = "antialiased",
) -> Float[Array, "new_tokens width"] | np.ndarray:
    """Resample a learned position embedding to another grid of patches, in float32; the rows of prefix tokens are kept.

    Cubic convolution (Keys 1981) whose samples are half pixels apart from the borders: `antialiased` with a = -1/2 and a kernel that widens
    where the grid shrinks (timm), `bicubic` with a = -3/4, a kernel of four samples always, and the border's row repeated outside
    (transformers). `corners` is linear interpolation between samples whose first and last stay where they are (big_vision).

    Args:
        embedding: prefix rows, then one row a patch, row by row.
        grid: the new rows and columns of patches.
        num_prefix: rows in front that belong to no patch.
        old_grid: the rows and columns of patches that the embedding is for; None takes `grid` itself if it has as many, else a square.
        resampling: a key of `RESAMPLINGS`.

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
    resampled = RESAMPLINGS[resampling](rows, grid).reshape(-1, width)
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


def overhangs(image_size: tuple[int, int], patch_size: tuple[int, int]) -> bool:
    """Whether the patches leave a part of an image over, on the right or below.

    Example:
        >>> overhangs((384, 384), (14, 14)), overhangs((378, 378), (14, 14))
        (True, False)
    """
    return any(step > 0 and edge >= step and edge % step for edge, step in zip(image_size, patch_size, strict=True))


def sine_cosine_positions(grid: tuple[int, int], width: int) -> Float[np.ndarray, "tokens width"]:
    """The position embedding without parameters of MoCo v3 (arXiv 2104.02057): `[sin(w x), cos(w x), sin(w y), cos(w y)]`.

    x and y count columns and rows, and w falls from 1 to 1e-4 in width / 4 steps of equal ratio.

    Example:
        >>> sine_cosine_positions((2, 3), 8).shape
        (6, 8)
    """
    if width % 4 or width < 8:
        raise ValueError(f"A position embedding of sines and cosines needs a width of 8 or more, a multiple of 4; got {width}.")
    frequencies = 1e-4 ** (np.arange(width // 4) / (width // 4 - 1))
    y, x = (np.outer(places.ravel(), frequencies) for places in np.indices(grid))
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1).astype(np.float32)
