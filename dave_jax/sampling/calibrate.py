"""Calibration: how much noise and how strong transforms a model bears.

DAVE averages over a neighbourhood of the image, and its authors warn that the strongest noise level `noise_alpha`, which they tune by eye
for each model, matters most. Inside the right neighbourhood the model still sees the same thing. So measure that: the change of the
target's probability along the noise path (the sensitivity curve), and take the strongest level at which it stays within a tolerance; the
transforms' ranges likewise.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.config import DaveConfig
from dave_jax.models.model import Forward, Model, check_class_ids, check_images, count_classes
from dave_jax.sampling.noise import add_noise, noise_levels
from dave_jax.sampling.transforms import apply_transform, sample_transform

NUM_LEVELS = 13
STRENGTHS = (0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        noise_alpha: the strongest noise level within the tolerance.
        levels: noise levels of the curve, Float[levels].
        change: the mean over images of `|p(x_t) - p(x)|`, p the target's softmax probability, at each level.
        strength: the share of the transforms' ranges that is within the tolerance, at most 1.
        strengths: shares of the ranges that were tried.
        transform_change: the same mean for transforms of each strength.
        tolerance: the largest change allowed.
        config: the model's settings with `noise_alpha` and the ranges that were found.
    """

    noise_alpha: float
    levels: np.ndarray
    change: np.ndarray
    strength: float
    strengths: np.ndarray
    transform_change: np.ndarray
    tolerance: float
    config: DaveConfig


def calibrate(
    model: Model,
    images: ArrayLike,
    targets: Any = None,
    *,
    key: PRNGKeyArray,
    tolerance: float = 0.2,
) -> Calibration:
    """Find `noise_alpha` and the transforms' ranges for a model from a few photographs.

    One compiled program: a forward pass for each image and each point of the two curves. Sixteen images are enough.

    Args:
        model: what to calibrate; its own config is the start.
        images: normalised photographs Float[b h w 3] that the model knows, 8 or more.
        targets: class ids Int[b]; default what the model predicts.
        key: of the noise and the transforms.
        tolerance: the largest mean change of the target's probability.

    Returns:
        The settings that were found, in `config` and one by one, and the two curves.

    Raises:
        ValueError: a tolerance that is none; images or targets that do not fit the model; probabilities that are not finite.
        TypeError: targets that are no class ids.

    Example:
        >>> import dave_jax as dave
        >>> found = calibrate(dave.testing.tiny_model(), jnp.ones((2, 16, 16, 3)), key=jax.random.key(0))
        >>> 0.0 <= found.noise_alpha < 1.0 and found.config.noise_alpha == found.noise_alpha
        True
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is a change of probability, between 0 and 1; got {tolerance}.")
    images = check_images(images, model.preprocessing.image_size)
    targets = jnp.argmax(model.logits(images), axis=-1) if targets is None else jnp.asarray(targets)
    if targets.shape != (len(images),):
        raise ValueError(f"targets must have shape ({len(images)},), one class id for each image; got {targets.shape}.")
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"targets must be class ids (integers); got {targets.dtype}.")
    check_class_ids(targets, count_classes(model, images.dtype))
    # even steps in the angle: fine where there is little noise, for some models bear no more
    levels, strengths = noise_levels(NUM_LEVELS, 0.96, "angle"), jnp.array(STRENGTHS)
    config = model.config
    change, transform_change = _sensitivity(model.forward, model.params, images, targets, key, levels, strengths, config)
    if not (np.isfinite(change).all() and np.isfinite(transform_change).all()):
        raise ValueError("The model gives probabilities that are not finite (NaN or infinity): look at its parameters.")
    alpha = last_within(np.asarray(levels), np.asarray(change), tolerance)
    strength = last_within(np.append(0.0, strengths), np.append(0.0, transform_change), tolerance)
    return Calibration(
        noise_alpha=alpha,
        levels=np.asarray(levels),
        change=np.asarray(change),
        strength=strength,
        strengths=np.asarray(strengths),
        transform_change=np.asarray(transform_change),
        tolerance=tolerance,
        config=dataclasses.replace(weaken(config, strength), noise_alpha=alpha),
    )


def weaken(config: DaveConfig, strength: Any) -> DaveConfig:
    """The settings with the ranges of rotation, shift and scale multiplied by `strength` (the scale's around 1).

    Example:
        >>> weaken(DaveConfig(), 0.5).rotation
        10.0
    """
    return dataclasses.replace(
        config,
        rotation=config.rotation * strength,
        shift=config.shift * strength,
        scale_min=1.0 + (config.scale_min - 1.0) * strength,
        scale_max=1.0 + (config.scale_max - 1.0) * strength,
    )


def last_within(positions: np.ndarray, changes: np.ndarray, tolerance: float) -> float:
    """Where the curve first crosses the tolerance, interpolated linearly; the last position if it never does.

    Example:
        >>> last_within(np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.1, 0.3]), 0.2)
        0.75
    """
    beyond = np.flatnonzero(changes > tolerance)
    if not beyond.size:
        return float(positions[-1])
    i = int(beyond[0])
    if i == 0:
        return float(positions[0])
    along = (tolerance - changes[i - 1]) / (changes[i] - changes[i - 1])
    return float(positions[i - 1] + along * (positions[i] - positions[i - 1]))


@partial(jax.jit, static_argnums=0)
def _sensitivity(
    forward: Forward,
    params: Any,
    images: Array,
    targets: Array,
    key: Array,
    levels: Float[Array, " levels"],
    strengths: Float[Array, " strengths"],
    config: DaveConfig,
) -> tuple[Float[Array, " levels"], Float[Array, " strengths"]]:
    """Mean over images of the change of the target's probability, along the noise path and for transforms of growing strength."""

    def one(job):
        image, target, key = job
        noise_key, transform_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, image.shape, image.dtype)

        def probability(neighbour):
            return jax.nn.softmax(forward(params, neighbour, "gradient"))[target]

        def move(strength):
            transform = sample_transform(transform_key, weaken(config, strength), *image.shape[:2])
            return probability(apply_transform(transform, image))

        clean = probability(image)
        noisy = jax.lax.map(lambda t: probability(add_noise(image, noise, t)), levels, batch_size=min(4, len(levels)))
        moved = jax.lax.map(move, strengths, batch_size=min(4, len(strengths)))
        return jnp.abs(noisy - clean), jnp.abs(moved - clean)

    changes = jax.lax.map(one, (images, targets, jax.random.split(key, len(images))))
    return jnp.mean(changes[0], axis=0), jnp.mean(changes[1], axis=0)
