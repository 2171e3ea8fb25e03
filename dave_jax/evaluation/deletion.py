"""Pixel deletion: how the target's probability falls as pixels are blurred away in the order of a map.

Reference protocol (the authors' repository, after CoDA-Nets): the least important pixels first, up to 90 % of them, replaced by the
Gaussian-blurred image; a good map keeps the probability high for long.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dave_jax.config import Scalar
from dave_jax.models.model import Forward, Model, check_class_ids, check_images, count_classes
from dave_jax.sampling.blur import gaussian_blur

BLUR_SIZE, BLUR_SIGMA = 31, 7.0
"""Of what replaces a pixel: kernel and sigma in pixels."""


def deletion_curve(
    model: Model,
    images: ArrayLike,
    targets: ArrayLike,
    maps: ArrayLike,
    *,
    steps: int = 32,
    fraction: float = 0.9,
    first: str = "least",
) -> Float[Array, "b steps"]:
    """The target's softmax probability as pixels are replaced, from none to `fraction` of them in equal steps.

    Args:
        model: what predicts.
        images: normalised images Float[b h w 3].
        targets: class ids Int[b].
        maps: one map for each image, Float[b h w]; only its order matters, ties go by position.
        steps: points of the curve, the first with nothing replaced.
        fraction: the share of pixels replaced at the last point.
        first: replace the `least` or the `most` important pixels first.

    Example:
        >>> import dave_jax as dave
        >>> images = jnp.ones((1, 16, 16, 3))
        >>> deletion_curve(dave.testing.tiny_model(), images, jnp.array([0]), images[..., 0], steps=3).shape
        (1, 3)
    """
    images, maps = check_images(images, model.preprocessing.image_size), jnp.asarray(maps)
    if maps.shape != images.shape[:3]:
        raise ValueError(f"maps must have shape {images.shape[:3]}, one for each image; got {maps.shape}.")
    if first not in ("least", "most"):
        raise ValueError(f"first must be 'least' or 'most'; got {first!r}.")
    check_class_ids(targets, count_classes(model, images.dtype))
    ranked = maps if first == "least" else -maps
    return _curve(model.forward, steps, model.params, images, jnp.asarray(targets), ranked, fraction)


def area_under_curve(curve: Float[Array, "*b steps"]) -> Float[Array, "*b"]:
    """The mean height of the curve, by the trapezoid rule: 1 is best for `least`, 0 for `most`."""
    return jnp.mean((curve[..., 1:] + curve[..., :-1]) / 2, axis=-1)


@partial(jax.jit, static_argnums=(0, 1))
def _curve(forward: Forward, steps: int, params: Any, images: Array, targets: Array, maps: Array, fraction: Scalar) -> Array:
    def one(job):
        image, target, heat = job
        blurred = gaussian_blur(image, size=BLUR_SIZE, sigma=BLUR_SIGMA)
        order = jnp.argsort(heat.ravel())
        rank = jnp.zeros(heat.size, jnp.int32).at[order].set(jnp.arange(heat.size, dtype=jnp.int32)).reshape(heat.shape)

        def probability(share):
            gone = rank < jnp.floor(share * heat.size).astype(jnp.int32)
            logits = forward(params, jnp.where(gone[..., None], blurred, image), "gradient")
            return jax.nn.softmax(logits)[target]

        return jax.lax.map(probability, jnp.linspace(0.0, fraction, steps), batch_size=min(8, steps))

    return jax.lax.map(one, (images, targets, maps))
