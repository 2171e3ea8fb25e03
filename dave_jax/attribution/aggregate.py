"""From the samples' maps to one: robust and plain averages over the leading axis.

An infinite sample is an outlier; NaN is none, and stays NaN, for it says that the model is broken.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from dave_jax.config import Scalar

Samples = Float[Array, "samples ..."]
Map = Float[Array, "..."]

BLOCK_BYTES = 2**21
"""Of a block of the samples, on a CPU: what fits in a core's cache, of which a byte each is looked at at once."""

WHOLE_VECTORS = 128
"""A block has a multiple of so many elements: XLA is four times slower where they fill no vectors."""


def lower_median(samples: Samples, count: int | Integer[Array, ""] | None = None) -> Map:
    """The median over the first axis; of an even number of values the lower of the two in the middle, as `torch.median`.

    A selection, not a sort: the bits of the answer are found from the highest down by counting how many values lie below, on integers that
    order as the floats do. Values must not be NaN.

    Args:
        samples: shape (samples, ...).
        count: how many of them there are so far, traced; the others must be infinite. By default all.

    Example:
        >>> lower_median(jnp.array([4.0, 1.0, 3.0, 2.0])).item()
        2.0
    """
    bits = jnp.finfo(samples.dtype).bits
    integer = jnp.dtype(f"uint{bits}")
    top = jnp.array(1 << (bits - 1), integer)
    raw = jax.lax.bitcast_convert_type(samples, integer)
    ordered = jnp.where(raw >= top, ~raw, raw | top)
    rank = jnp.asarray(((samples.shape[0] if count is None else count) - 1) // 2)
    found = jax.lax.platform_dependent(ordered, rank, cpu=_select_by_blocks, default=partial(_select, digit_bits=bits))
    return jax.lax.bitcast_convert_type(jnp.where(found >= top, found ^ top, ~found), samples.dtype)


def _select(ordered: Integer[Array, "samples ..."], rank: Integer[Array, ""], digit_bits: int) -> Integer[Array, "..."]:
    """The value over the first axis that has `rank` values below it, of unsigned integers; found digit by digit, each bit by bit."""
    kind, digit = ordered.dtype, jnp.dtype(f"uint{digit_bits}")
    counter = digit if ordered.shape[0] <= jnp.iinfo(digit).max else jnp.dtype("uint32")
    rank = rank.astype(counter)
    top, largest = jnp.array(1 << (digit_bits - 1), digit), jnp.array(jnp.iinfo(digit).max, kind)
    found = jnp.zeros((1, *ordered.shape[1:]), kind)
    for rest in range(jnp.iinfo(kind).bits - digit_bits, -1, -digit_bits):
        least = found << digit_bits
        # The next digit of those whose digits so far are what was found; the least digit of those below, the largest of those above.
        digits = (jnp.clip(ordered >> rest, least, least | largest) - least).astype(digit)

        def fix_bit(i, low, digits=digits):
            candidate = low | (top >> i.astype(digit))
            below = jnp.sum(digits < candidate, axis=0, keepdims=True, dtype=counter)
            return jnp.where(below <= rank, candidate, low)

        found = least | jax.lax.fori_loop(0, digit_bits, fix_bit, jnp.zeros_like(found, digit)).astype(kind)
    return found[0]


def _select_by_blocks(ordered: Integer[Array, "samples ..."], rank: Integer[Array, ""]) -> Integer[Array, "..."]:
    """`_select` of some elements after the other: all samples of a block stay in a core's cache while their bits are found, as bytes, of
    which a processor compares four times as many at once."""
    flat = ordered.reshape(len(ordered), -1)
    size = flat.shape[1]
    fitting = min(size, BLOCK_BYTES // (len(ordered) * ordered.dtype.itemsize))
    block = max(1, math.ceil(fitting / WHOLE_VECTORS)) * WHOLE_VECTORS
    padded = jnp.pad(flat, ((0, 0), (0, -size % block)))

    def select(start):
        return _select(jax.lax.dynamic_slice_in_dim(padded, start, block, axis=1), rank, digit_bits=8)

    return jax.lax.map(select, jnp.arange(0, padded.shape[1], block)).reshape(-1)[:size].reshape(ordered.shape[1:])


def mad_mean(samples: Samples, threshold: Scalar = 2.5) -> Map:
    """The mean of the samples that lie near the median, element by element.

    `keep_i = |c_i - med| <= threshold (1.4826 mad + 1e-8)`, with `mad = median |c_i - med|`: 1.4826 mad estimates the standard deviation
    of a normal distribution, so that outliers beyond `threshold` of it are left out (authors' code, `explainer.py`).

    Args:
        samples: shape (samples, ...).
        threshold: in robust standard deviations.

    Example:
        >>> mad_mean(jnp.array([1.0, 2.0, 3.0, 2.0, 900.0])).item()
        2.0
    """
    return weighted_mean(samples, jax.vmap(inside, (0, None, None))(samples, *mad_bounds(samples, threshold)))


def mad_bounds(samples: Samples, threshold: Scalar = 2.5, count: int | Integer[Array, ""] | None = None) -> tuple[Map, Map]:
    """The median, and how far from it a sample may lie: `threshold (1.4826 mad + 1e-8)`; `count` as in `lower_median`.

    And four roundings of the median: a compiler that computes a sample again, its last product fused with the subtraction, must still find
    the median's own sample within.
    """
    median = lower_median(samples, count)
    rounding = 4.0 * jnp.finfo(samples.dtype).eps * jnp.abs(median)
    return median, threshold * (1.4826 * lower_median(jnp.abs(samples - median[None]), count) + 1e-8) + rounding


def inside(sample: Map, median: Map, radius: Map) -> Map:
    """The weight of a sample in `mad_mean`: 1 within `mad_bounds`, 0 outside."""
    return (~(jnp.abs(sample - median) > radius)).astype(sample.dtype)


def tukey(sample: Map, median: Map, radius: Map) -> Map:
    """The weight of a sample in `biweight`: `(1 - u^2)^2` for `u = (c - med) / (2 radius)`, 0 where `|u| > 1`."""
    away, widest = jnp.abs(sample - median), 2.0 * radius
    return jnp.where(away > widest, 0.0, jnp.square(1.0 - jnp.square(away / jnp.where(widest == 0, 1.0, widest))))


def biweight(samples: Samples, threshold: Scalar = 2.5) -> Map:
    """Tukey's biweight mean: as `mad_mean`, with weights that fall smoothly to 0 at twice its bounds.

    A sample near a bound moves the map little where the mask of `mad_mean` takes it in or leaves it out. (Beaton and Tukey 1974; the usual
    threshold of 4.685 robust standard deviations is about twice that of `mad_mean`.)

    Example:
        >>> biweight(jnp.array([1.0, 2.0, 3.0, 2.0, 900.0])).item()
        2.0
    """
    return weighted_mean(samples, jax.vmap(tukey, (0, None, None))(samples, *mad_bounds(samples, threshold)))


def weighted(sample: Map, weight: Map) -> Map:
    """The product; 0 where the weight is, whatever the sample."""
    return jnp.where(weight == 0, 0.0, weight * sample)


def weighted_mean(samples: Samples, weights: Samples) -> Map:
    """The mean over the first axis with these weights; 0 where all are."""
    return divide(jnp.sum(weighted(samples, weights), axis=0), jnp.sum(weights, axis=0))


def divide(total: Map, weight: Map) -> Map:
    """`total / weight`; the total, which is 0, where the weight is 0.

    Not by the least number there: a compiler that makes one divisor of two, as of this and the image in `smooth`, would make 0 of that.
    """
    return total / jnp.where(weight == 0, 1.0, weight)


def mean(samples: Samples, threshold: Scalar = 2.5) -> Map:
    """The plain mean; `threshold` is not used."""
    return jnp.mean(samples, axis=0)


def median(samples: Samples, threshold: Scalar = 2.5, count: int | Integer[Array, ""] | None = None) -> Map:
    """The lower median; `threshold` is not used, `count` is as in `lower_median`."""
    return jnp.where(jnp.any(jnp.isnan(samples), axis=0), jnp.nan, lower_median(samples, count))


AGGREGATIONS: dict[str, Callable[[Samples, Scalar], Map]] = {"mad_mean": mad_mean, "biweight": biweight, "mean": mean, "median": median}
"""By the name in `DaveConfig.aggregation`; `streaming_mean` needs no function, for it never holds the samples."""

ROBUST_WEIGHTS: dict[str, Callable[[Map, Map, Map], Map]] = {"mad_mean": inside, "biweight": tukey}
"""Those that are means with weights from median and deviation, which few samples tell: `weight(sample, median, radius)`."""
