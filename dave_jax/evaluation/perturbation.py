"""Pixel perturbation: how the target's probability moves as pixels are removed, or brought back, in the order of a map.

curves = perturbation_curves(model, images, targets, maps, protocol=dave_paper)
scores = area_under_curve(curves.probabilities, curves.shares)
"""

import dataclasses
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from dave_jax.attribution.chunk import default_chunk
from dave_jax.attribution.inputs import as_image_ids
from dave_jax.attribution.method import settings
from dave_jax.config import Scalar
from dave_jax.effective.decomposition import gradient
from dave_jax.evaluation.imputation import linear_imputation
from dave_jax.models.model import Forward, Model, check_class_ids, check_images, count_classes
from dave_jax.sampling.blur import gaussian_blur
from dave_jax.sampling.noise import standard_normal


@settings(static=("first", "insert", "patch_size", "fill", "points", "blur_size", "ties"))
class PerturbationProtocol:
    """What is removed, in which order, how much of it, and what takes its place.

    Attributes:
        first: units of `least` or of `most` importance come first.
        insert: bring pixels back into the fully filled image (insertion) instead of removing them (deletion).
        patch_size: a unit is a square of so many pixels, ranked by its sum; 1: a pixel.
        fill: what removed pixels become: the `blur` of the image (zeros outside it); the `mean` that the preprocessing subtracts, 0 in a
            normalised image; `noisy_linear`: what the pixels around them say, plus noise (see `imputation.linear_imputation`).
        fraction: the share of the units that moves, at the last point.
        points: about how many points a curve has; see `unit_counts`.
        blur_size, blur_sigma: kernel and sigma of `blur`, in pixels.
        noise: standard deviation of the noise of `noisy_linear`, in units of the normalised image.
        ties: units of equal importance come by `position`, row by row, or in a `random` order, the same for every image.
        confidence: the least probability of the target, on images that the model classifies rightly, for which the protocol is meant (see
            `selection.qualifying`); `perturbation_curves` does not look at it.
        seed: of the noise and of the order of ties.
    """

    first: Literal["least", "most"] = "least"
    insert: bool = False
    patch_size: int = 1
    fill: Literal["blur", "mean", "noisy_linear"] = "blur"
    fraction: Scalar = 0.9
    points: int = 32
    blur_size: int = 31
    blur_sigma: Scalar = 7.0
    noise: Scalar = 0.01
    ties: Literal["position", "random"] = "position"
    confidence: Scalar = 0.9
    seed: Scalar = 0

    def __post_init__(self):
        problems = []
        named = {"first": ("least", "most"), "fill": ("blur", "mean", "noisy_linear"), "ties": ("position", "random")}
        for name, choices in named.items():
            if getattr(self, name) not in choices:
                problems.append(f"{name} must be one of {list(choices)}; got {getattr(self, name)!r}")
        for name in ("patch_size", "points", "blur_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1 or (name == "blur_size" and value % 2 == 0):
                problems.append(f"{name} must be a positive{' odd' if name == 'blur_size' else ''} integer; got {value!r}")
        for name, low, high in (("fraction", 0.0, 1.0), ("blur_sigma", 0.0, 1e3), ("noise", 0.0, 1e3), ("confidence", 0.0, 1.0)):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not low <= value <= high:  # traced values cannot be looked at
                problems.append(f"{name} must lie in [{low:g}, {high:g}]; got {value}")
        if problems:
            raise ValueError("PerturbationProtocol: " + "; ".join(problems) + ".")


dave_paper = PerturbationProtocol(points=128)
"""The deletion of the authors' repository: the least important pixels first, up to 90 % of them, in 128 equal steps and the rest of them,
replaced by the image blurred with a kernel of 31 pixels and sigma 7; images that the model classifies rightly with probability >= 0.9. They
rank raw maps, channels summed. Ties are left to NumPy's sort there and go by position here; the last point, less than a step from the one
before, counts as a full step there and lies where it belongs here."""


@dataclasses.dataclass(frozen=True)
class PerturbationCurves:
    """Curves over the share of the units that has moved.

    Attributes:
        shares: of the units removed or brought back, from 0 to the protocol's fraction, rounded down to whole units.
        probabilities: the target's softmax probability.
        logits: the target's logit.
    """

    shares: Float[np.ndarray, " points"]
    probabilities: Float[Array, "b points"]
    logits: Float[Array, "b points"]


def unit_counts(num_units: int, protocol: PerturbationProtocol) -> Integer[np.ndarray, " points"]:
    """How many units have moved at each point: 0, s, 2 s, ... with `s = floor(total / points)`, and `total = floor(fraction num_units)`.

    The authors' rule: equal steps, and one more point for what is left of `total` after them.

    Example:
        >>> unit_counts(224 * 224, dave_paper)[[0, 1, 2, -2, -1]].tolist(), len(unit_counts(224 * 224, dave_paper))
        ([0, 352, 704, 45056, 45158], 130)
    """
    total = max(1, int(protocol.fraction * num_units))
    step = max(1, total // protocol.points)
    counts = np.arange(0, total + 1, step, dtype=np.int32)
    return counts if counts[-1] == total else np.append(counts, np.int32(total))


def perturbation_curves(
    model: Model,
    images: ArrayLike,
    targets: ArrayLike,
    maps: ArrayLike,
    *,
    protocol: PerturbationProtocol = dave_paper,
    chunk_size: int | None = None,
) -> PerturbationCurves:
    """The target's probability and logit as pixels are removed or brought back in the order of a map; one compiled program for all points.

    Args:
        model: what predicts.
        images: normalised images Float[b h w 3].
        targets: class ids Int[b].
        maps: one signed map for each image, Float[b h w]; only its order matters.
        protocol: what is removed, and how.
        chunk_size: points that are computed at once; None chooses it from the device's memory. No value depends on it.

    Raises:
        ValueError: maps that do not go with the images or are not finite, a class that the model does not have, patches that do not tile
            the image.

    Example:
        >>> import dave_jax as dave
        >>> images = jnp.ones((1, 16, 16, 3))
        >>> protocol = PerturbationProtocol(points=4, fraction=0.5)
        >>> perturbation_curves(dave.testing.tiny_model(), images, jnp.array([0]), images[..., 0], protocol=protocol).shares.tolist()
        [0.0, 0.125, 0.25, 0.375, 0.5]
    """
    images, maps = check_images(images, model.preprocessing.image_size), jnp.asarray(maps)
    if maps.shape != images.shape[:3]:
        raise ValueError(f"maps must have shape {images.shape[:3]}, one for each image; got {maps.shape}.")
    if not bool(jnp.isfinite(maps).all()):
        raise ValueError("maps must be finite to be ranked; these hold NaN or infinity.")
    height, width = maps.shape[1:]
    size = protocol.patch_size
    if height % size or width % size:
        raise ValueError(f"Patches of {size} x {size} pixels must tile the image, of {height} x {width} pixels; choose another patch_size.")
    if jnp.shape(targets) != images.shape[:1]:
        raise ValueError(f"targets must be one class id for each image, shape {images.shape[:1]}; got {jnp.shape(targets)}.")
    check_class_ids(targets, count_classes(model, images.dtype))
    counts = unit_counts(num_units := (height // size) * (width // size), protocol)
    chunk = chunk_size or default_chunk(model.forward, model.params, images.shape[1:], gradient, len(counts), 0)
    work = images, jnp.asarray(targets), maps, as_image_ids(None, images)
    probabilities, logits = _curves(model.forward, min(chunk, len(counts)), protocol, model.params, work, jnp.asarray(counts))
    return PerturbationCurves(counts / num_units, probabilities, logits)


def area_under_curve(values: Any, shares: Any) -> Float[np.ndarray, "*b"]:
    """The mean height of curves over the shares that they cover, by the trapezoid rule: the area divided by the fraction.

    Of probabilities with the least important first 1 is best, with the most important first 0; of insertions the other way round.

    Args:
        values: curves, (..., points).
        shares: where the points are, (points,).

    Raises:
        ValueError: other shapes, or fewer than two points.

    Example:
        >>> area_under_curve([[1.0, 0.5, 0.5]], [0.0, 0.2, 0.4]).tolist()
        [0.625]
    """
    heights, where = np.asarray(values, np.float64), np.asarray(shares, np.float64)
    if where.ndim != 1 or len(where) < 2 or heights.shape[-1:] != where.shape:
        raise ValueError(f"values (..., points) need their shares (points,), two points at least; got {heights.shape} and {where.shape}.")
    return np.asarray(np.trapezoid(heights, where) / (where[-1] - where[0]))


def symmetric_relevance_gain(
    least: PerturbationCurves, most: PerturbationCurves, *, of: Literal["logits", "probabilities"] = "logits"
) -> Float[np.ndarray, " b"]:
    """`SRG = AUC(least important first) - AUC(most important first)`, for each image (arXiv 2401.06654): higher is better, 0 is chance.

    It depends less than either area on what takes the place of the removed pixels.

    Args:
        least, most: curves of the same images and maps.
        of: logits, or probabilities.

    Raises:
        ValueError: curves over different shares; none of that name.

    Example:
        >>> fall, stay = (PerturbationCurves(np.array([0.0, 1.0]), jnp.ones((1, 2)), jnp.array([[2.0, x]])) for x in (0.0, 2.0))
        >>> symmetric_relevance_gain(stay, fall).tolist()
        [1.0]
    """
    if of not in ("logits", "probabilities"):
        raise ValueError(f"of must be 'logits' or 'probabilities'; got {of!r}.")
    if not np.array_equal(least.shares, most.shares):
        raise ValueError("Both curves must be over the same shares: use one protocol, with first='least' and first='most'.")
    return area_under_curve(getattr(least, of), least.shares) - area_under_curve(getattr(most, of), most.shares)


@partial(jax.jit, static_argnums=(0, 1))
def _curves(
    forward: Forward, chunk: int, protocol: PerturbationProtocol, params: Any, work: Any, counts: Integer[Array, " points"]
) -> tuple[Float[Array, "b points"], Float[Array, "b points"]]:
    def one(job):
        image, target, heat, number = job
        rank = _ranks(heat, protocol)
        key = jax.random.fold_in(jax.random.key(protocol.seed), number)

        def at(count):
            gone = (rank < count) != protocol.insert
            logits = forward(params, _filled(image, gone, protocol, key), "gradient")
            return jax.nn.softmax(logits)[target], logits[target]

        return jax.lax.map(at, counts, batch_size=chunk)

    return jax.lax.map(one, work)


def _ranks(heat: Float[Array, "h w"], protocol: PerturbationProtocol) -> Integer[Array, "h w"]:
    """When each pixel's unit moves: 0 for the first."""
    size = protocol.patch_size
    units = heat.reshape(heat.shape[0] // size, size, heat.shape[1] // size, size).sum((1, 3))
    scores = units.ravel() if protocol.first == "least" else -units.ravel()
    order = jnp.argsort(scores)
    if protocol.ties == "random":
        shuffled = jax.random.permutation(jax.random.key(protocol.seed), scores.size)
        order = shuffled[jnp.argsort(scores[shuffled])]
    rank = jnp.zeros(scores.size, jnp.int32).at[order].set(jnp.arange(scores.size, dtype=jnp.int32))
    return jnp.repeat(jnp.repeat(rank.reshape(units.shape), size, axis=0), size, axis=1)


def _filled(image: Float[Array, "h w 3"], gone: Array, protocol: PerturbationProtocol, key: Array) -> Float[Array, "h w 3"]:
    if protocol.fill == "noisy_linear":
        noise = protocol.noise * standard_normal(key, image.shape, image.dtype)
        return jnp.where(gone[..., None], linear_imputation(image, gone) + noise, image)
    if protocol.fill == "blur":
        return jnp.where(gone[..., None], gaussian_blur(image, size=protocol.blur_size, sigma=protocol.blur_sigma), image)
    return jnp.where(gone[..., None], 0.0, image)
