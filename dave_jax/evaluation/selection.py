"""Which images a protocol takes: those that the model classifies rightly with confidence, and mosaics of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Integer

PATIENCE = 20
"""Rounds without a new mosaic after which there are taken to be no more."""


def qualifying(targets: Any, probabilities: Any, confidence: float) -> Integer[np.ndarray, " chosen"]:
    """The indices of the images whose target is the most probable class, with a probability of at least `confidence`.

    Args:
        targets: class ids Int[b].
        probabilities: softmax of the logits, Float[b classes].
        confidence: in [0, 1].

    Raises:
        ValueError: shapes that do not go together, an id that is no class, a confidence out of range.

    Example:
        >>> qualifying([0, 1, 1], [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], 0.7).tolist()
        [0, 2]
    """
    ids, chances = np.asarray(targets), np.asarray(probabilities)
    if ids.ndim != 1 or chances.ndim != 2 or len(ids) != len(chances) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"targets must be class ids (b,) and probabilities have shape (b, classes); got {ids.dtype} {ids.shape} and {chances.shape}."
        )
    if len(ids) and not (0 <= ids.min() and ids.max() < chances.shape[1]):
        raise ValueError(f"Class ids must lie in 0 to {chances.shape[1] - 1}; got {ids.min()} to {ids.max()}.")
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence is a probability, in [0, 1]; got {confidence}.")
    rows = np.arange(len(ids))
    return np.flatnonzero((chances.argmax(axis=1) == ids) & (chances[rows, ids] >= confidence)) if len(ids) else rows


def choose_mosaics(
    targets: Any, probabilities: Any, n: int, count: int, confidence: float, seed: int
) -> Integer[np.ndarray, "mosaics cells"]:
    """Images for mosaics of n rows and columns, of distinct classes, that the model classifies rightly with confidence.

    Each image is used once at most while they last: always from the classes with most images left, which gives the most mosaics. Then a new
    round begins with all of them in another order. No two mosaics hold the same set of images, so there can be fewer than `count`. The
    place of a class in its mosaic is drawn.

    Args:
        targets: class ids Int[b].
        probabilities: softmax of the logits, Float[b classes].
        n: rows and columns.
        count: of mosaics.
        confidence: see `qualifying`.
        seed: of the order; the same for equal mosaics.

    Returns:
        Indices of images, n n for each mosaic, row by row as `grid.mosaic` lays them out; at most `count` mosaics.

    Raises:
        ValueError: fewer than n n classes have an image that qualifies; arguments out of range, or as in `qualifying`.

    Example:
        >>> choose_mosaics(np.arange(5), np.eye(5), 2, 1, 0.9, 0).shape
        (1, 4)
    """
    if n < 1 or count < 1:
        raise ValueError(f"n and count must be at least 1; got {n} and {count}.")
    ids, known = np.asarray(targets), qualifying(targets, probabilities, confidence)
    members = {int(target): known[ids[known] == target] for target in np.unique(ids[known])}
    if len(members) < n * n:
        raise ValueError(
            f"Mosaics of {n} x {n} need images of {n * n} classes that the model classifies rightly with probability >= {confidence:g}; "
            f"{len(known)} of {len(ids)} images do, of {len(members)} classes. Lower the confidence, or give more images."
        )
    draw = np.random.default_rng(seed)
    found: list[list[int]] = []
    seen: set[frozenset[int]] = set()
    barren = 0
    while len(found) < count and barren < PATIENCE:
        before = len(found)
        for group in _round(members, n * n, draw):
            if len(found) < count and frozenset(group) not in seen:
                seen.add(frozenset(group))
                found.append(group)
        barren = barren + 1 if len(found) == before else 0
    return np.array(found)


def _round(members: dict[int, np.ndarray], size: int, draw: np.random.Generator) -> Iterator[list[int]]:
    """Groups of distinct classes until fewer than `size` classes have images left."""
    left = {target: draw.permutation(images).tolist() for target, images in members.items()}
    while len(left) >= size:
        drawn = [list(left)[i] for i in draw.permutation(len(left))]  # classes with as many left in an order of chance
        fullest = sorted(drawn, key=lambda target: -len(left[target]))[:size]
        yield [left[fullest[i]].pop() for i in draw.permutation(size)]
        left = {target: images for target, images in left.items() if images}
