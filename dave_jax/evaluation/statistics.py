"""What a mean over images is worth: bootstrap confidence intervals, of a score and of the difference between two."""

import dataclasses
from typing import Any, Literal

import numpy as np

MEMORY = 2**22
"""Numbers that are resampled at once."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval.

    Attributes:
        mean: over all values.
        low, high: the bootstrap's percentile interval; NaN for fewer than two images.
        standard_error: the standard deviation of the bootstrap's means; NaN for fewer than two images.
        count: images that the mean is over.
        missing: values that were NaN: left out, or taken as 0.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    count: int
    missing: int


def bootstrap(values: Any, seed: int, *, resamples: int = 2000, level: float = 0.95, missing: Literal["drop", "zero"] = "drop") -> Estimate:
    """The mean of a score over images, and how far it would move with other images of the kind.

    Images are drawn with replacement `resamples` times; `low` and `high` are percentiles of the means (`scipy.stats.bootstrap`).

    Args:
        values: one score for each image, or a row of several, such as one for each cell of a mosaic: rows are drawn as a whole, the mean is
            over all their values. NaN is a score that is not defined, such as that of a map without positive mass.
        seed: of the draws; the same for equal results.
        resamples: how often.
        level: of the interval.
        missing: `drop` leaves NaN out, `zero` counts it as 0. Report both where there are any: a method must not gain by saying nothing.

    Raises:
        ValueError: no values, infinite ones, or settings out of range.

    Example:
        >>> estimate = bootstrap([0.0, 0.5, 1.0, float("nan")], 0)
        >>> estimate.mean, estimate.count, estimate.missing, bootstrap([0.0, 0.5, 1.0, float("nan")], 0, missing="zero").mean
        (0.5, 3, 1, 0.375)
    """
    from scipy import stats  # takes half a second to import

    table = np.asarray(values, np.float64)
    if table.ndim < 1 or not table.size:
        raise ValueError(f"values must hold one score or one row of scores for each image, of at least one; got shape {table.shape}.")
    if np.isinf(table).any():
        raise ValueError(f"values must be finite or NaN; images {np.flatnonzero(np.isinf(table.reshape(len(table), -1)).any(1))} are not.")
    if missing not in ("drop", "zero"):
        raise ValueError(f"missing must be 'drop' or 'zero'; got {missing!r}.")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples must be at least 1 and level between 0 and 1; got {resamples} and {level}.")
    table = table.reshape(len(table), -1)
    lost = np.isnan(table)
    sums = np.where(lost, 0.0, table).sum(axis=1)
    sizes = (np.ones_like(table) if missing == "zero" else ~lost).sum(axis=1)
    sums, sizes = sums[sizes > 0], sizes[sizes > 0]
    count, absent = len(sums), int(lost.sum())
    mean = float(sums.sum() / sizes.sum()) if count else np.nan
    if count < 2:
        return Estimate(mean, np.nan, np.nan, np.nan, count, absent)
    found = stats.bootstrap(
        (sums, sizes),
        lambda sums, sizes, axis: sums.sum(axis) / sizes.sum(axis),
        paired=True,
        n_resamples=resamples,
        batch=max(1, MEMORY // count),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    error = float(np.std(found.bootstrap_distribution))
    return Estimate(mean, float(low), float(high), error, count, absent)


def bootstrap_difference(
    values: Any,
    others: Any,
    seed: int,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    missing: Literal["drop", "zero"] = "drop",
) -> Estimate:
    """The mean of `values - others`, scores of two methods on the same images, each image drawn with both its scores.

    Far narrower than the difference of two intervals, for images differ more than methods do. Where it does not hold 0, the methods differ.

    Args:
        values: as in `bootstrap`.
        others: of the same shape, in the same order.
        seed, resamples, level: as in `bootstrap`.
        missing: `drop` leaves out the pairs of which either is NaN, `zero` counts NaN as 0. `Estimate.missing` counts these pairs.

    Raises:
        ValueError: two shapes; or as in `bootstrap`.

    Example:
        >>> bootstrap_difference([0.2, 0.5, 1.2], [0.1, 0.4, 1.1], 0).low > 0.09
        True
    """
    first, second = np.asarray(values, np.float64), np.asarray(others, np.float64)
    if first.shape != second.shape:
        raise ValueError(
            f"A paired difference needs the scores of the same images in the same order; got {first.shape} and {second.shape}."
        )
    estimate = bootstrap(first - second, seed, resamples=resamples, level=level, missing=missing)
    if missing == "drop" or not estimate.missing:
        return estimate
    filled = bootstrap(np.nan_to_num(first) - np.nan_to_num(second), seed, resamples=resamples, level=level)
    return dataclasses.replace(filled, missing=estimate.missing)
