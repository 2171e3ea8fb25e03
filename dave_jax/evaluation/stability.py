"""Stability: does a map move with its image (equivariance), and does it stay when the image hardly changes?

What a classifier sees does not change much when an object is turned or shifted a little, nor with a little noise. So the map should turn
with it, or stay. Neither says that a map is right: the image's own edges score well on both.

A random method draws its samples by the image's pixels, hence anew for each changed image; its Monte-Carlo error then counts as
instability, as a user meets it. To take it out, give `attribute` the same `image_ids` each time.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dave_jax.evaluation.similarity import Attribute, checked_maps, pearson
from dave_jax.sampling.transforms import about_centre, rotation, translation
from dave_jax.sampling.warp import Matrix, warp


@dataclasses.dataclass(frozen=True)
class Motion:
    """A rotation about the image's centre, then a shift.

    Attributes:
        rotation: in degrees, positive turns clockwise on the screen.
        shift_x, shift_y: to the right and downwards, as shares of the width and height.

    Example:
        >>> Motion(0.0, 0.25, 0.0).matrix(8, 8).tolist()
        [[1.0, 0.0, 2.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """

    rotation: float
    shift_x: float
    shift_y: float

    def matrix(self, height: int, width: int) -> Matrix:
        """From input pixels (x, y, 1) to output pixels, for images of that size."""
        return _matrix(height, width, self.rotation, self.shift_x, self.shift_y)


@partial(jax.jit, static_argnums=(0, 1))
def _matrix(height: int, width: int, degrees: Array, shift_x: Array, shift_y: Array) -> Array:
    return translation(shift_x * width, shift_y * height) @ about_centre(rotation(degrees), height, width)


PAPER_MOTIONS = (Motion(5.0, 20 / 224, 8 / 224), Motion(-40.0, 50 / 224, -30 / 224))
"""The two augmentations of DAVE's authors (arXiv 2602.06613): 5 degrees and (20, 8) pixels; -40 degrees and (50, -30) pixels, at 224."""


def equivariance(
    attribute: Attribute, images: ArrayLike, targets: Any, motions: Sequence[Motion] = PAPER_MOTIONS
) -> Float[Array, "b motions"]:
    """The correlation between the map of the moved image and the moved map of the image: `corr(m(T x), T m(x))`, at best 1.

    Over the pixels that stay inside: those of T x whose source lies in x. What moves in from outside is zero (the mean colour of a
    normalised image). Moving a map interpolates it bilinearly, which smooths it: a map of independent pixels does not reach 1 under a
    motion that is not of whole pixels, however well it moves with the image.

    Args:
        attribute: signed maps of images, Float[b h w]; see `similarity`.
        images: normalised images Float[b h w channels].
        targets: class ids Int[b].
        motions: T, one column of the result for each.

    Raises:
        ValueError: a motion that leaves fewer than two pixels inside; maps of a wrong shape, or not finite.

    Example:
        >>> images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
        >>> brightness = lambda images, targets: jnp.abs(images).sum(-1)
        >>> equivariance(brightness, images, [0, 0], [Motion(0.0, 0.25, 0.0)]).round(5).tolist()
        [[1.0], [1.0]]
    """
    images = _checked(images)
    shape = images.shape[:3]
    maps = checked_maps(attribute(images, targets), shape)
    scores = []
    for motion in motions:
        matrix = motion.matrix(*shape[1:])
        inside = stays_inside(matrix, *shape[1:])
        if int(inside.sum()) < 2:
            raise ValueError(
                f"A motion must leave at least two pixels of the image inside; got {motion} at {shape[1]} x {shape[2]} pixels."
            )
        scores.append(pearson(checked_maps(attribute(move(images, matrix), targets), shape), move(maps, matrix), inside=inside))
    return jnp.stack(scores, axis=1)


def move(moving: Float[Array, "b h w *channels"], matrix: Matrix) -> Float[Array, "b h w *channels"]:
    """Images or maps, each moved by the same matrix; zeros from outside."""
    return _move(moving, matrix)


@jax.jit
def _move(moving: Array, matrix: Array) -> Array:
    flat = moving.reshape(*moving.shape[:3], -1)
    return jax.vmap(lambda one: warp(one, matrix.astype(one.dtype)))(flat).reshape(moving.shape)


def stays_inside(matrix: Matrix, height: int, width: int) -> Bool[Array, "h w"]:
    """The pixels of a moved image that come wholly from inside the image.

    Example:
        >>> stays_inside(translation(1.0, 0.0), 1, 3).tolist()
        [[False, True, True]]
    """
    return move(jnp.ones((1, height, width)), matrix)[0] > 1.0 - 1e-3  # rounding at the border


@dataclasses.dataclass(frozen=True)
class NoiseStability:
    """How maps change under small noise; with x' = x + u for the draws of u, and m the map:

    Attributes:
        correlation: the mean of `corr(m(x'), m(x))`, Float[b].
        max_sensitivity: the largest `|m(x') - m(x)| / |m(x)|`, Float[b]: Max-Sensitivity, relative.
        mean_sensitivity: the mean of the same, Float[b]: AvgSensitivity, relative.
    """

    correlation: Float[Array, " b"]
    max_sensitivity: Float[Array, " b"]
    mean_sensitivity: Float[Array, " b"]


def noise_stability(
    attribute: Attribute, images: ArrayLike, targets: Any, *, key: PRNGKeyArray, radius: float = 0.02, num_draws: int = 10
) -> NoiseStability:
    """Compare the map of an image with those of the image under small noise, `u ~ U(-radius, radius)` for every value.

    Max-Sensitivity (arXiv 1901.09392, Definition 2) is `max |m(x') - m(x)|` over a ball of that radius, estimated by drawing from it. It
    grows with the scale of a map, which differs between methods, so that norms are divided by `|m(x)|` (Euclidean, as `captum` does, with
    its defaults; a map of zeros is divided by 1). `quantus` divides by the norm of the image instead, which leaves the scale in.

    Args:
        attribute: signed maps of images, Float[b h w]; see `similarity`.
        images: normalised images Float[b h w channels].
        targets: class ids Int[b].
        key: of the noise.
        radius: of the ball, in units of the normalised image.
        num_draws: how many points of the ball.

    Example:
        >>> images = jnp.ones((2, 16, 16, 3))
        >>> edges = lambda images, targets: images[..., 0] - jnp.roll(images[..., 0], 1, axis=1)
        >>> noise_stability(edges, images, [0, 0], key=jax.random.key(0)).max_sensitivity.shape
        (2,)
    """
    if not radius > 0:
        raise ValueError(f"radius must be above 0; got {radius}.")
    if num_draws < 1:
        raise ValueError(f"num_draws must be at least 1; got {num_draws}.")
    images = _checked(images)
    shape = images.shape[:3]
    maps = checked_maps(attribute(images, targets), shape)
    correlations, changes = [], []
    for draw_key in jax.random.split(key, num_draws):
        noise = jax.random.uniform(draw_key, images.shape, images.dtype, minval=-radius, maxval=radius)
        noisy = checked_maps(attribute(images + noise, targets), shape)
        correlations.append(pearson(noisy, maps))
        changes.append(_relative_change(noisy, maps))
    changes = jnp.stack(changes)
    return NoiseStability(jnp.mean(jnp.stack(correlations), axis=0), jnp.max(changes, axis=0), jnp.mean(changes, axis=0))


@jax.jit
def _relative_change(noisy: Array, maps: Array) -> Array:
    change, own = (jnp.sqrt(jnp.sum(jnp.square(part), axis=(1, 2))) for part in (noisy - maps, maps))
    return change / jnp.where(own == 0, 1.0, own)


def _checked(images: ArrayLike) -> Float[Array, "b h w channels"]:
    if np.ndim(images) != 4:
        raise ValueError(f"images must have shape (b, h, w, channels); got {np.shape(images)}.")
    return jnp.asarray(images)
