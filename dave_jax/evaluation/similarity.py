"""How alike two maps are: correlation, correlation of ranks, and what they hold highest. Each is defined for constant maps too.

The other metrics call an explanation as `attribute(images, targets) -> signed maps`, with class ids Int[b] for maps Float[b h w], or
Int[b k] for Float[b k h w]; of a `Method`, that is

    attribute = lambda images, targets: method(model, images, targets, key=key, raw=True)
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Maps = Float[Array, "*b h w"]
Scores = Float[Array, "*b"]

Attribute = Callable[[Array, Any], Any]
"""`attribute(images, targets)`: signed maps of normalised images."""


def pearson(maps: Maps, others: Maps, *, inside: Bool[Array, "h w"] | None = None) -> Scores:
    """The correlation of two maps over their pixels, in [-1, 1]; `1 - pearson` is their correlation distance.

    A map is constant when it varies by no more than rounding. Two constant maps have correlation 1 (they say the same: nothing), a
    constant and another 0.

    Args:
        maps: the maps.
        others: what each is compared with.
        inside: the pixels that count; all by default.

    Example:
        >>> ramp = jnp.arange(4.0).reshape(2, 2)
        >>> [pearson(ramp, other).round(5).item() for other in (3 * ramp + 1, -ramp, 0 * ramp)]
        [1.0, -1.0, 0.0]
    """
    return _correlation(maps, others, jnp.ones(maps.shape[-2:], bool) if inside is None else inside)


@jax.jit
def _correlation(maps: Array, others: Array, counts: Array) -> Array:
    counts = counts.reshape((1,) * (maps.ndim - 2) + counts.shape)

    def centred(maps: Array) -> tuple[Array, Array]:
        """Deviations from the mean, scaled to length one, and whether there are none."""
        maps = jnp.where(counts, maps, 0.0)
        peak = jnp.max(jnp.abs(maps), axis=(-2, -1), keepdims=True)
        maps = maps / jnp.where(peak == 0, 1.0, peak)  # squares of small numbers would vanish
        mean = jnp.sum(maps, axis=(-2, -1), keepdims=True) / jnp.sum(counts).astype(maps.dtype)
        away = jnp.where(counts, maps - mean, 0.0)
        length, whole = (jnp.sqrt(jnp.sum(jnp.square(part), axis=(-2, -1), keepdims=True)) for part in (away, maps))
        constant = length <= 16 * jnp.finfo(maps.dtype).eps * whole
        return away / jnp.where(constant, 1.0, length), constant[..., 0, 0]

    (first, first_constant), (second, second_constant) = centred(maps), centred(others)
    product = jnp.clip(jnp.sum(first * second, axis=(-2, -1)), -1.0, 1.0)
    either, both = first_constant | second_constant, first_constant & second_constant
    return jnp.where(either, both.astype(product.dtype), product)


def ranks(maps: Maps) -> Maps:
    """The rank of each pixel in its map, from 0; equal pixels share the mean of their ranks.

    Example:
        >>> ranks(jnp.array([[5.0, 7.0], [5.0, 9.0]])).tolist()
        [[0.5, 2.0], [0.5, 3.0]]
    """
    return _ranks(maps)


@jax.jit
def _ranks(maps: Array) -> Array:
    def one(values: Array) -> Array:
        ordered = jnp.sort(values)
        below, up_to = (jnp.searchsorted(ordered, values, side=side) for side in ("left", "right"))
        return (below + up_to - 1).astype(values.dtype) / 2

    return jax.lax.map(one, maps.reshape(-1, maps.shape[-2] * maps.shape[-1])).reshape(maps.shape)


def spearman(maps: Maps, others: Maps) -> Scores:
    """The correlation of the ranks of two maps' pixels: unchanged by any increasing function of the values. Constant maps as in `pearson`.

    Example:
        >>> ramp = jnp.arange(4.0).reshape(2, 2)
        >>> spearman(ramp, jnp.exp(9 * ramp)).round(5).item()
        1.0
    """
    return pearson(ranks(maps), ranks(others))


def top_overlap(maps: Maps, others: Maps, *, share: float = 0.1) -> Scores:
    """The part that two maps' highest pixels have in common: `|top(a) & top(b)| / |top|`, in [0, 1]; `share` is what chance gives.

    Args:
        maps: the maps.
        others: what each is compared with.
        share: how many pixels are the top ones, at least one; of equal pixels those that come first.

    Example:
        >>> ramp = jnp.arange(4.0).reshape(2, 2)
        >>> top_overlap(ramp, ramp, share=0.5).item(), top_overlap(ramp, -ramp, share=0.5).item()
        (1.0, 0.0)
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is the part of the pixels that are the top ones, above 0 and at most 1; got {share}.")
    return _overlap(max(1, round(share * maps.shape[-2] * maps.shape[-1])), maps, others)


@partial(jax.jit, static_argnums=0)
def _overlap(count: int, maps: Array, others: Array) -> Array:
    pixels = maps.shape[-2] * maps.shape[-1]

    def top(values: Array) -> Array:
        return jnp.zeros(pixels, bool).at[jax.lax.top_k(values, count)[1]].set(True)

    common = jax.lax.map(lambda pair: jnp.sum(top(pair[0]) & top(pair[1])), (maps.reshape(-1, pixels), others.reshape(-1, pixels)))
    return (common / count).astype(maps.dtype).reshape(maps.shape[:-2])


def checked_maps(maps: Any, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """The maps that an explanation returned, as an array.

    Raises:
        ValueError: they do not have that shape, or are not finite: ranks and overlaps would hide it.
    """
    maps = jnp.asarray(maps)
    if maps.shape != shape:
        raise ValueError(
            f"attribute(images, targets) must return signed maps of shape {shape}; got {maps.shape}. Sum over channels: maps.sum(-1)."
        )
    if not bool(jnp.isfinite(maps).all()):
        raise ValueError("attribute(images, targets) must return finite maps; got NaN or infinity. Check the images and the method.")
    return maps
