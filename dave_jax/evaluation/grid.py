"""The grid pointing game: photographs of distinct classes in one mosaic, and how much of a class's map lies on its own photograph.

Photographs need no boxes: the mosaic says where each class is (`selection.choose_mosaics` says which photographs to take).

    picture = mosaic(images[group])                                          (n h, n w, 3)
    maps    = explain_mosaic(attribute, model, picture, targets[group])      one for each cell
    scores  = grid_pointing_game(maps, jnp.arange(n * n), n)
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from dave_jax.evaluation.localisation import energy_in_region
from dave_jax.models.model import Model, check_images
from dave_jax.models.resize import at_image_size

Attribute = Callable[[Model, Float[Array, "b h w 3"], Integer[Array, "b k"]], Float[Array, "b k h w"]]
"""`attribute(model, images, targets)`: signed maps, one for each image and target; `partial(method, key=key, raw=True)` is one."""


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


def grid_pointing_game(maps: Float[Array, "*b h w"], cells: Integer[Array, "*b"], n: int = 2, *, smoothing: int = 1) -> Float[Array, "*b"]:
    """The share of a map's positive mass inside its target's cell: `sum_cell max(c, 0) / sum max(c, 0)`.

    1 is best, 1 / n^2 is chance. GridPG of arXiv 2205.10435 (Rao, Böhle, Schiele), after the
    localisation metric of arXiv 2104.00032 (Böhle, Fritz, Schiele).

    Args:
        maps: one map of the mosaic for each target.
        cells: where each target is, 0 to n n - 1, row by row as in `mosaic`.
        n: rows and columns of the mosaic.
        smoothing: edge of the mean filter that comes before the positive part, odd; 1 for none.

    Returns:
        The shares; NaN for a map without positive mass (see `energy_in_region`).

    Raises:
        ValueError: maps that n rows and columns do not divide; a cell that the mosaic does not have; an even smoothing.

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
    return energy_in_region(maps, number == cells[..., None, None], smoothing=smoothing)


def explain_mosaic(
    attribute: Attribute,
    model: Model,
    image: ArrayLike,
    targets: Any,
    *,
    grid_mode: Literal["interpolate", "stride"] = "interpolate",
    stride: tuple[int, int] | None = None,
) -> Float[Array, "k height width"]:
    """Signed maps of a mosaic, one for each target.

    `interpolate`: the model sees the whole mosaic at once, at the mosaic's size: its position embedding is resampled. `stride`: the model
    keeps its own size and sees windows of the mosaic, which overlap; the maps of a target over all windows are added up where they lie (the
    protocol of B-cosification, arXiv 2411.00715, for vision transformers: windows of 224 every 112 pixels, with a border of 112).

    Args:
        attribute: see `Attribute`.
        model: of the cells' image size, or already of the mosaic's for `interpolate`.
        image: a mosaic Float[height width 3], normalised.
        targets: class ids Int[k].
        grid_mode: `interpolate` or `stride`.
        stride: for `stride`: rows and columns from one window to the next, which is also the border of zeros around the mosaic; default
            half the model's image size.

    Raises:
        ValueError: no mode of that name; windows that do not tile the mosaic; maps of another shape.
        TypeError: `interpolate` with a model that cannot change its image size.

    Example:
        >>> from dave_jax.testing import tiny_model
        >>> explain_mosaic(lambda model, images, targets: images[:, None, ..., 0], tiny_model(), jnp.ones((32, 32, 3)), [3]).shape
        (1, 32, 32)
    """
    image, ids = jnp.asarray(image), jnp.asarray(targets)
    if image.ndim != 3 or ids.ndim != 1:
        raise ValueError(f"A mosaic is (height, width, 3) and its targets are (k,); got {image.shape} and {ids.shape}.")
    whole = image.shape[0], image.shape[1]
    check_images(image[None], whole)
    if grid_mode == "interpolate":
        return _checked(attribute, at_image_size(model, whole), image[None], ids)[0]
    if grid_mode != "stride":
        raise ValueError(f"grid_mode must be 'interpolate' or 'stride'; got {grid_mode!r}.")
    size = model.preprocessing.image_size
    step = _check_stride(whole, size, stride or (size[0] // 2, size[1] // 2))
    return _fold(_checked(attribute, model, _windows(image, size, step), ids), whole, step)


def _checked(attribute: Attribute, model: Model, images: Array, ids: Array) -> Float[Array, "b k h w"]:
    maps = jnp.asarray(attribute(model, images, jnp.broadcast_to(ids, (len(images), len(ids)))))
    expected = (len(images), len(ids), *images.shape[1:3])
    if maps.shape != expected:
        raise ValueError(f"attribute must return signed maps of shape {expected}, channels summed; got {maps.shape}.")
    return maps


def _check_stride(whole: tuple[int, int], size: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    for edge, window, step in zip(whole, size, stride, strict=True):
        if not 0 < step <= window or (edge - window + 2 * step) % step or edge < window:
            raise ValueError(
                f"Windows of {size} pixels every {stride} must tile a mosaic of {whole} with a border of {stride}: a stride of 1 to the "
                "window's size that divides the difference of the sizes. Half the model's image size does, where that is even."
            )
    return stride


@partial(jax.jit, static_argnums=(1, 2))
def _windows(image: Array, size: tuple[int, int], stride: tuple[int, int]) -> Array:
    """All windows, row by row: (windows, h, w, ...)."""
    padded = jnp.pad(image, [(step, step) for step in stride] + [(0, 0)] * (image.ndim - 2))
    rows, columns = (range(0, edge - window + 1, step) for edge, window, step in zip(padded.shape, size, stride, strict=False))
    return jnp.stack([padded[row : row + size[0], column : column + size[1]] for row in rows for column in columns])


@partial(jax.jit, static_argnums=(1, 2))
def _fold(maps: Array, whole: tuple[int, int], stride: tuple[int, int]) -> Array:
    """Maps of the windows (windows, k, h, w), added up where they lie: the adjoint of cutting the windows out."""
    shape = jax.ShapeDtypeStruct(whole, maps.dtype)
    add_up = jax.linear_transpose(lambda one: _windows(one, maps.shape[-2:], stride), shape)
    return jax.vmap(lambda one: add_up(one)[0], in_axes=1)(maps)
