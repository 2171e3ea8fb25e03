"""Localisation: how much of a map lies on the object.

A region is the object's place in the model's frame, Bool[h w]; `dave_jax.evaluation.regions` makes one of boxes or of a mask.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float


def energy_in_region(maps: Float[Array, "*b h w"], regions: Bool[Array, "*b h w"], *, smoothing: int = 1) -> Float[Array, "*b"]:
    """The share of a map's positive mass inside a region: `sum_region max(c, 0) / sum max(c, 0)`.

    EnergyPG, the energy-based pointing game of arXiv 1910.01279 (Wang et al.). Several boxes are one region, their union: a pixel in
    two boxes counts once.

    Args:
        maps: signed maps c.
        regions: where the object is; none may be empty.
        smoothing: see `smooth`; comes before the positive part is taken.

    Returns:
        The shares: 1 is best, the region's share of the area is what a constant map gets. NaN for a map without positive mass, whose
        score is not defined; `statistics.bootstrap` counts them, and leaves them out or takes them as 0.

    Raises:
        ValueError: a region is empty, or the smoothing is no odd number.

    Example:
        >>> energy_in_region(jnp.array([[1.0, 3.0], [-9.0, 0.0]]), jnp.array([[False, True], [True, True]])).item()
        0.75
    """
    _check_regions(regions)
    positive = jnp.maximum(smooth(maps, smoothing), 0.0)
    total = jnp.sum(positive, axis=(-2, -1))
    inside = jnp.sum(jnp.where(regions, positive, 0.0), axis=(-2, -1))
    return jnp.where(total > 0, inside / jnp.where(total > 0, total, 1.0), jnp.nan)


def relevance_rank_accuracy(maps: Float[Array, "*b h w"], regions: Bool[Array, "*b h w"]) -> Float[Array, "*b"]:
    """The share of the K most important pixels that lie inside the region, K its number of pixels (arXiv 2003.07258).

    1 is best. Pixels of equal importance are taken in reading order.

    Raises:
        ValueError: a region is empty.

    Example:
        >>> relevance_rank_accuracy(jnp.array([[4.0, 3.0], [-9.0, 0.0]]), jnp.array([[True, False], [True, False]])).item()
        0.5
    """
    _check_regions(regions)
    heat, inside = (array.reshape(*array.shape[:-2], -1) for array in (maps, regions))
    ordered = jnp.take_along_axis(inside, jnp.argsort(-heat, axis=-1), axis=-1)
    size = jnp.sum(inside, axis=-1, keepdims=True)
    first = jax.lax.broadcasted_iota(size.dtype, inside.shape, inside.ndim - 1) < size
    return jnp.sum(ordered & first, axis=-1).astype(maps.dtype) / size[..., 0].astype(maps.dtype)


def pointing_game(maps: Float[Array, "*b h w"], regions: Bool[Array, "*b h w"]) -> Float[Array, "*b"]:
    """1 where the map's highest pixel lies inside the region, else 0 (arXiv 1608.00507); of several the first in reading order decides.

    Raises:
        ValueError: a region is empty.

    Example:
        >>> pointing_game(jnp.array([[4.0, 3.0], [-9.0, 0.0]]), jnp.array([[True, False], [True, False]])).item()
        1.0
    """
    _check_regions(regions)
    heat, inside = (array.reshape(*array.shape[:-2], -1) for array in (maps, regions))
    return jnp.take_along_axis(inside, jnp.argmax(heat, axis=-1, keepdims=True), axis=-1)[..., 0].astype(maps.dtype)


def smooth(maps: Float[Array, "*b h w"], size: int) -> Float[Array, "*b h w"]:
    """The mean over windows of `size` x `size` pixels, zeros outside the map; size 1 changes nothing.

    Signed maps are smoothed before their positive part is taken, so that noise of both signs cancels instead of counting.

    Raises:
        ValueError: the size is no odd positive number.

    Example:
        >>> smooth(jnp.ones((3, 3)), 3)[1].tolist()
        [0.6666666865348816, 1.0, 0.6666666865348816]
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"smoothing is the edge of a window in pixels, an odd number (1: none); got {size}.")
    if size == 1:
        return maps
    window = (1,) * (maps.ndim - 2) + (size, size)
    return jax.lax.reduce_window(maps, 0.0, jax.lax.add, window, (1,) * maps.ndim, "SAME") / size**2


def _check_regions(regions: Any) -> None:
    if isinstance(regions, Tracer):
        return
    empty = np.flatnonzero(~np.asarray(regions).any(axis=(-2, -1)))
    if empty.size:
        raise ValueError(
            f"A region must hold at least one pixel; those of {empty.tolist()} are empty (the crop cut the object away, or the box is "
            "smaller than a pixel of the model). Leave such images out: region.any()."
        )
