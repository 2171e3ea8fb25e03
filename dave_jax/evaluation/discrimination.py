"""Class discrimination: do the maps of two classes of one image differ, where they should?

A map that ignores its target (attention rollout, edges) finds the object too, and scores well wherever a picture holds one class.
"""

import dataclasses
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from dave_jax.evaluation.similarity import Attribute, checked_maps, pearson
from dave_jax.models.model import Model


@dataclasses.dataclass(frozen=True)
class Discrimination:
    """How the maps of an image's classes differ; means over the pairs of classes.

    Attributes:
        distance: `1 - correlation` of two signed maps, Float[...]: 0 for equal maps, 1 for unrelated ones, 2 for opposite ones.
        shared: the part of the positive mass that both claim, Float[...]: `sum min(p, q)` for positive parts p, q scaled to sum to one;
            1 for equal maps, 0 for maps that claim different pixels.
    """

    distance: Float[Array, "*b"]
    shared: Float[Array, "*b"]


def discrimination(maps: Float[Array, "*b classes h w"]) -> Discrimination:
    """Compare the maps of several classes of the same image: two classes, or those of the cells of a mosaic.

    Two constant maps are equal (distance 0); two maps without positive mass share all of it (1), one without and another nothing (0).

    Raises:
        ValueError: fewer than two classes.

    Example:
        >>> left, right = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])
        >>> found = discrimination(jnp.stack([left, right]))
        >>> found.distance.item(), found.shared.item()
        (2.0, 0.0)
    """
    if maps.ndim < 3 or maps.shape[-3] < 2:
        raise ValueError(f"maps must have shape (..., classes, h, w) with two classes or more of each image; got {maps.shape}.")
    classes = [maps[..., i, :, :] for i in range(maps.shape[-3])]
    pairs = list(combinations(classes, 2))
    distance, shared = (jnp.stack([compare(*pair) for pair in pairs]).mean(axis=0) for compare in (_distance, shared_mass))
    return Discrimination(distance, shared)


def class_discrimination(attribute: Attribute, images: ArrayLike, targets: Any) -> Discrimination:
    """`discrimination` of the maps of each image's targets, of one call: a random method gives them the same samples.

    Args:
        attribute: signed maps of images, Float[b k h w] for targets Int[b k]; see `similarity`.
        images: normalised images Float[b h w channels].
        targets: class ids Int[b k], k >= 2: the target and `runner_up`, or the classes that the image holds.

    Raises:
        ValueError: a wrong shape, or a class twice for one image: its maps could not differ.

    Example:
        >>> blind = lambda images, targets: jnp.repeat(images.sum(-1)[:, None], 2, axis=1)
        >>> class_discrimination(blind, jnp.arange(8.0).reshape(1, 2, 2, 2), jnp.array([[3, 7]])).distance.round(5).tolist()
        [0.0]
    """
    images, ids = jnp.asarray(images), np.asarray(targets)
    if ids.ndim != 2 or ids.shape[0] != len(images) or ids.shape[1] < 2:
        raise ValueError(f"targets must have shape ({len(images)}, k) with k >= 2, the classes to tell apart; got {ids.shape}.")
    twice = [i for i, row in enumerate(ids.tolist()) if len(set(row)) < len(row)]
    if twice:
        raise ValueError(f"The classes of an image must differ; images {twice} have one twice.")
    return discrimination(checked_maps(attribute(images, targets), (*ids.shape, *images.shape[1:3])))


def runner_up(model: Model, images: ArrayLike, targets: Any) -> Integer[Array, " b"]:
    """The class of the highest logit that is not the target's.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> best = jnp.argmax(model.logits(images), axis=-1)
        >>> bool(runner_up(model, images, best)[0] == jnp.argsort(model.logits(images)[0])[-2])
        True
    """
    logits, ids = model.logits(images), jnp.asarray(targets)
    if ids.shape != logits.shape[:1]:
        raise ValueError(f"targets must have shape {logits.shape[:1]}, one class id for each image; got {ids.shape}.")
    own = jnp.arange(logits.shape[1])[None] == ids[:, None]
    return jnp.argmax(jnp.where(own, -jnp.inf, logits), axis=-1)


def shared_mass(maps: Float[Array, "*b h w"], others: Float[Array, "*b h w"]) -> Float[Array, "*b"]:
    """`sum min(p, q)`, with p and q the positive parts scaled to sum to one; see `Discrimination`."""
    return _shared_mass(maps, others)


@jax.jit
def _shared_mass(maps: Array, others: Array) -> Array:
    def scaled(maps: Array) -> tuple[Array, Array]:
        positive = jnp.maximum(maps, 0.0)
        peak = jnp.max(positive, axis=(-2, -1), keepdims=True)
        positive = positive / jnp.where(peak == 0, 1.0, peak)  # the sum of small numbers might vanish
        total = jnp.sum(positive, axis=(-2, -1), keepdims=True)
        return positive / jnp.where(total == 0, 1.0, total), total[..., 0, 0] == 0

    (first, first_empty), (second, second_empty) = scaled(maps), scaled(others)
    common = jnp.sum(jnp.minimum(first, second), axis=(-2, -1))
    return jnp.where(first_empty & second_empty, 1.0, common)


def _distance(maps: Float[Array, "*b h w"], others: Float[Array, "*b h w"]) -> Float[Array, "*b"]:
    return 1.0 - pearson(maps, others)
