"""Which photographs a method is judged on: those that the model knows, class by class in turn, alone and in mosaics."""

import collections
import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dave_jax.evaluation.data import Photograph
from dave_jax.evaluation.log import plain
from dave_jax.evaluation.selection import choose_mosaics, qualifying
from dave_jax.models.model import Model

_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is explained.

    Attributes:
        photographs: alone.
        probabilities: of their classes.
        mosaics: groups of photographs of distinct classes, row by row.
        seen: how many photographs the model was shown to find them.
    """

    photographs: tuple[Photograph, ...]
    probabilities: tuple[float, ...]
    mosaics: tuple[tuple[Photograph, ...], ...]
    seen: int


def choose(
    photographs: Sequence[Photograph],
    model: Model,
    *,
    seed: int,
    count: int | None = None,
    num_mosaics: int = 0,
    rows: int = 2,
    min_confidence: float = 0.9,
    marked_first: bool = False,
) -> Choice:
    """The first `count` photographs that the model classifies rightly with that probability, and mosaics of such photographs.

    The order is drawn with the seed, one of every class by turns, and the model is shown no more photographs than are needed. Mosaics are
    those of `choose_mosaics`: a photograph is in a second one only when all have been used.

    Args:
        photographs: to choose from.
        model: who must know them.
        seed: of the order and of the mosaics.
        count: of photographs to explain alone; None takes all.
        num_mosaics: at most so many; fewer where the photographs do not suffice.
        rows: of a mosaic.
        min_confidence: the least probability of the true class.
        marked_first: take those whose object is marked before the others.

    Raises:
        ValueError: the model knows none, or too few classes for a mosaic.
    """
    order = in_turn(photographs, seed, marked_first=marked_first)
    known: list[Photograph] = []
    chances: list[np.ndarray] = []
    seen, best = 0, 0.0
    while seen < len(order):
        batch = order[seen : seen + _BATCH]
        seen += len(batch)
        found = np.asarray(jax.nn.softmax(model.logits(model.preprocess([photograph.photo() for photograph in batch]))))
        targets = np.array([photograph.target for photograph in batch])
        right = qualifying(targets, found, 0.0)
        best = max([best, *found[right].max(axis=1).tolist()])
        for i in qualifying(targets, found, min_confidence):
            known.append(batch[i])
            chances.append(found[i])
        if count is not None and len(known) >= max(count, rows**2 * num_mosaics):
            break
    if not known:
        raise ValueError(
            f"No photograph of {len(order)} is classified rightly with a probability of at least {min_confidence:g} "
            f"(the highest is {best:.3g}). Lower the confidence, or give photographs that the model knows."
        )
    targets = np.array([photograph.target for photograph in known])
    mosaics = choose_mosaics(targets, np.stack(chances), rows, num_mosaics, min_confidence, seed) if num_mosaics else np.zeros((0, 1), int)
    kept = len(known) if count is None else count
    return Choice(
        photographs=tuple(known[:kept]),
        probabilities=tuple(float(chance.max()) for chance in chances[:kept]),
        mosaics=tuple(tuple(known[i] for i in cells) for cells in mosaics),
        seen=seen,
    )


def in_turn(photographs: Sequence[Photograph], seed: int, *, marked_first: bool = False) -> list[Photograph]:
    """One of every class by turns, in an order drawn with the seed."""
    shuffled = [photographs[i] for i in np.random.default_rng(seed).permutation(len(photographs))]
    seen: collections.Counter[Hashable] = collections.Counter()

    def turn(photograph: Photograph) -> tuple[bool, int]:
        late = marked_first and not photograph.marked
        seen[late, photograph.target] += 1
        return late, seen[late, photograph.target]

    return sorted(shuffled, key=turn)


def store(choice: Choice, model: Model) -> dict[str, Any]:
    """A choice for JSON: names, classes and probabilities of photographs, and the names in each mosaic, row by row."""
    rows = [
        {
            "name": photograph.name,
            "class": photograph.target,
            "class_name": model.class_name(photograph.target),
            "probability": plain(probability),
        }
        for photograph, probability in zip(choice.photographs, choice.probabilities, strict=True)
    ]
    mosaics = [[photograph.name for photograph in cells] for cells in choice.mosaics]
    return {"seen": choice.seen, "photographs": rows, "mosaics": mosaics}


def restore(stored: Mapping[str, Any], photographs: Sequence[Photograph]) -> Choice:
    """What `store` gave."""
    by_name = {photograph.name: photograph for photograph in photographs}
    return Choice(
        photographs=tuple(by_name[row["name"]] for row in stored["photographs"]),
        probabilities=tuple(row["probability"] for row in stored["photographs"]),
        mosaics=tuple(tuple(by_name[name] for name in cells) for cells in stored["mosaics"]),
        seen=stored["seen"],
    )
