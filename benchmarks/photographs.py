"""Photographs that a model knows, in its frame, with the regions of those whose object is marked; and mosaics of them."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dave_jax.evaluation import choice
from dave_jax.evaluation.data import Photograph
from dave_jax.evaluation.grid import mosaic
from dave_jax.evaluation.selection import choose_mosaics
from dave_jax.models.model import Model
from dave_jax.models.resize import at_image_size


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What a benchmark explains.

    Attributes:
        photographs: in order, those with a marked object first.
        images: normalised, (b, h, w, 3).
        targets: class ids (b,).
        probabilities: of the targets (b,).
        marked: which of them have a region.
        regions: of those, bool (marked, h, w).
    """

    photographs: tuple[Photograph, ...]
    images: jax.Array
    targets: np.ndarray
    probabilities: np.ndarray
    marked: np.ndarray
    regions: np.ndarray


def choose(photographs: Sequence[Photograph], model: Model, count: int, confidence: float, seed: int) -> Chosen:
    """The first `count` by turns of the classes that the model classifies rightly with at least that probability."""
    found = choice.choose(photographs, model, seed=seed, count=count, min_confidence=confidence, marked_first=True)
    if len(found.photographs) < count:
        raise ValueError(
            f"{count} photographs are needed that the model classifies rightly with probability >= {confidence}; "
            f"it does so with {len(found.photographs)} of {found.seen}. Ask for fewer, or lower the confidence."
        )
    marked = np.array([i for i, photograph in enumerate(found.photographs) if photograph.marked], int)
    regions = [found.photographs[i].region(model.preprocessing) for i in marked]
    return Chosen(
        photographs=found.photographs,
        images=model.preprocess([photograph.photo() for photograph in found.photographs]),
        targets=np.array([photograph.target for photograph in found.photographs]),
        probabilities=np.array(found.probabilities),
        marked=marked,
        regions=np.array(regions, bool).reshape(-1, *model.preprocessing.image_size),
    )


@dataclasses.dataclass(frozen=True)
class Mosaics:
    """Mosaics of two rows and columns, for the grid pointing game.

    Attributes:
        model: at the mosaics' size, twice the photographs'.
        members: indices of the photographs (m, 4), row by row.
        images: normalised, (m, 2 h, 2 w, 3).
        targets: class ids (m, 4).
        cells: where each target is (m, 4).
    """

    model: Model
    members: np.ndarray
    images: jax.Array
    targets: np.ndarray
    cells: jax.Array


def mosaics(chosen: Chosen, model: Model, count: int, seed: int) -> Mosaics:
    """At most `count` of them; each photograph is used once while they last. The model may have another size than the photographs."""
    certain = np.eye(chosen.targets.max() + 1)[chosen.targets]  # the confidence has been looked at
    members = choose_mosaics(chosen.targets, certain, 2, count, 0.0, seed)
    return Mosaics(
        model=at_image_size(model, (2 * chosen.images.shape[1], 2 * chosen.images.shape[2])),
        members=members,
        images=jnp.stack([mosaic(chosen.images[group]) for group in members]),
        targets=chosen.targets[members],
        cells=jnp.broadcast_to(jnp.arange(4), members.shape),
    )
