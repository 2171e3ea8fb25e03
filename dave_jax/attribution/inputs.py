"""What every explanation is given, checked: images, targets, and what tells the images apart in the randomness."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from dave_jax.attribution.targets import as_cotangents
from dave_jax.models.model import Model, check_images, count_classes


class Inputs(NamedTuple):
    """Images and targets in the form in which programs take them.

    Attributes:
        images: normalised, Float[b h w 3].
        cotangents: on the logits, Float[b k classes].
        image_ids: Integer[b].
        single: whether one target was given for each image, so that maps have no axis k.
    """

    images: Float[Array, "b h w 3"]
    cotangents: Float[Array, "b k classes"]
    image_ids: Integer[Array, " b"]
    single: bool

    @property
    def image(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of one image."""
        return jax.ShapeDtypeStruct(self.images.shape[1:], self.images.dtype)

    @property
    def num_targets(self) -> int:
        """Of each image."""
        return self.cotangents.shape[1]


def as_inputs(model: Model, images: ArrayLike, targets: Any, image_ids: ArrayLike | None) -> Inputs:
    """Arguments of `explain` and the like, checked against the model.

    Raises:
        ValueError, TypeError: as `check_images`, `as_cotangents` and `as_image_ids`.

    Example:
        >>> import dave_jax as dave
        >>> found = as_inputs(dave.testing.tiny_model(), jnp.ones((2, 16, 16, 3)), [0, 1], None)
        >>> found.cotangents.shape, found.single
        ((2, 1, 5), True)
    """
    images = check_images(images, model.preprocessing.image_size)
    cotangents, single = as_cotangents(targets, len(images), count_classes(model, images.dtype), images.dtype)
    return Inputs(images, cotangents, as_image_ids(image_ids, images), single)


def image_id(image: Float[Array, "h w 3"]) -> Integer[Array, ""]:
    """A 32-bit checksum of the pixels: the same for the same image in any batch.

    Example:
        >>> bool(image_id(jnp.zeros((2, 2, 3))) == image_id(jnp.ones((2, 2, 3))))
        False
    """
    words = jax.lax.bitcast_convert_type(image.astype(jnp.float32) + jnp.float32(0), jnp.uint32).ravel()  # + 0 makes -0 a 0
    odd = jnp.arange(words.size, dtype=jnp.uint32) * jnp.uint32(2654435762) + jnp.uint32(1)
    total = jnp.sum((words ^ (words >> jnp.uint32(15))) * odd, dtype=jnp.uint32)
    return total ^ (total >> jnp.uint32(16))


def as_image_ids(image_ids: ArrayLike | None, images: Float[Array, "b h w 3"]) -> Integer[Array, " b"]:
    """The given ids, checked, or else `image_id` of each image.

    Raises:
        ValueError: not one id for each image.
        TypeError: ids that are no integers.
    """
    if image_ids is None:
        return jax.vmap(image_id)(images)
    ids = jnp.asarray(image_ids)
    if ids.shape != (len(images),):
        raise ValueError(f"image_ids must have shape ({len(images)},), one for each image; got {ids.shape}.")
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"image_ids must be integers; got {ids.dtype}.")
    return ids
