"""The grid pointing game: photographs of distinct classes in one mosaic, and how much of a class's map lies on its own photograph.

Photographs need no boxes: the mosaic says where each class is. The model sees the whole mosaic, at an image size of n times its own.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Integer

from dave_jax.evaluation.localisation import energy_in_region


def mosaic(images: Float[Array, "cells h w 3"]) -> Float[Array, "height width 3"]:
    """Images laid out in n rows of n, row by row: from (n n, h, w, 3) to (n h, n w, 3).

    Raises:
        ValueError: the number of images is no square.

    Example:
        >>> mosaic(jnp.arange(4.0).reshape(4, 1, 1, 1) * jnp.ones((4, 1, 1, 3)))[..., 0].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    cells, height, width, channels = images.shape
    n = math.isqrt(cells)
    if not cells or n * n != cells:
        raise ValueError(f"A mosaic of n rows of n takes n * n images (4, 9, ...); got {cells}.")
    rows = images.reshape(n, n, height, width, channels)
    return jnp.swapaxes(rows, 1, 2).reshape(n * height, n * width, channels)


def grid_pointing_game(maps: Float[Array, "*b h w"], cells: Integer[Array, "*b"], n: int = 2) -> Float[Array, "*b"]:
    """The share of a map's positive mass inside its target's cell: `sum_cell max(c, 0) / sum max(c, 0)`.

    1 is best, 1 / n^2 is chance. A map without positive mass scores 0. GridPG of arXiv 2205.10435 (Rao, Böhle, Schiele), after the
    localisation metric of arXiv 2104.00032 (Böhle, Fritz, Schiele).

    Args:
        maps: one map of the mosaic for each target.
        cells: where each target is, 0 to n n - 1, row by row as in `mosaic`.
        n: rows and columns of the mosaic.

    Raises:
        ValueError: maps that n rows and columns do not divide; a cell that the mosaic does not have.

    Example:
        >>> grid_pointing_game(jnp.array([[1.0, 3.0], [-9.0, 0.0]]), jnp.array(1)).item()
        0.75
    """
    height, width = maps.shape[-2:]
    if n < 1 or height % n or width % n:
        raise ValueError(f"maps must divide into n = {n} rows and columns of equal cells; got {height} x {width} pixels.")
    if not isinstance(cells, Tracer):
        wrong = np.unique(np.asarray(cells)[(np.asarray(cells) < 0) | (np.asarray(cells) >= n * n)])
        if wrong.size:
            raise ValueError(f"cells must lie in 0 to {n * n - 1}, row by row, for a mosaic of {n} x {n}; got {wrong.tolist()}.")
    row, column = jnp.arange(height) // (height // n), jnp.arange(width) // (width // n)
    number = (n * row[:, None] + column[None, :]).reshape((1,) * cells.ndim + (height, width))
    return energy_in_region(maps, number == cells[..., None, None])
