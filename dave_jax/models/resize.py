"""A loaded model at another image size."""

import dataclasses
from collections.abc import Callable
from typing import Any

from convert_weights.table import flatten, unflatten
from dave_jax.effective.precision import narrow, wide
from dave_jax.models.families import family_of
from dave_jax.models.image_text import ImageText
from dave_jax.models.model import Model
from dave_jax.models.positions import check_tiling
from dave_jax.models.swin import Swin
from dave_jax.models.swin_config import SwinConfig
from dave_jax.models.swin_positions import table_resamplings
from dave_jax.models.vit import ViT
from dave_jax.models.vit_positions import resamplings


def at_image_size(model: Model, image_size: tuple[int, int]) -> Model:
    """The model for images of another size: position embedding or bias resampled from the model's own grid to the new one.

    `load(name, image_size=...)` resamples from the checkpoint's grid instead, which differs where the model was loaded at yet another size.
    Convolutional networks take any size as they are.

    Args:
        model: with a network of dave_jax.
        image_size: height and width in pixels; for a transformer multiples of the patch size.

    Raises:
        TypeError: the model is none of ours, or no classifier.
        ValueError: patches do not tile the size.

    Example:
        >>> from dave_jax.testing import tiny_model
        >>> at_image_size(tiny_model(), (32, 32)).forward.config.grid
        (8, 8)
    """
    if image_size == model.preprocessing.image_size:
        return model
    preprocessing = dataclasses.replace(model.preprocessing, image_size=image_size)
    if family_of(model.forward) is None:
        raise TypeError(
            f"Only a network of dave_jax can change its image size; {model.name!r} is a {type(model.forward).__name__}. "
            "Build the model at the size that you need."
        )
    if isinstance(model, ImageText):
        raise TypeError(f"{model.name!r} compares images with text: make a classifier of it first, model.prompts([...]).")
    if not isinstance(model.forward, ViT | Swin):
        return dataclasses.replace(model, preprocessing=preprocessing)
    config, changes = resampled_at(model.forward.config, image_size)
    params = unflatten(
        {path: narrow(changes[path](wide(leaf)), leaf) if path in changes else leaf for path, leaf in flatten(model.params).items()}
    )
    return dataclasses.replace(model, params=params, forward=type(model.forward)(config), preprocessing=preprocessing)


def resampled_at(own: Any, image_size: tuple[int, int]) -> tuple[Any, dict[str, Callable[[Any], Any]]]:
    """A transformer's configuration for images of another size, and by path the changes of the parameters that depend on places.

    Args:
        own: a `ViTConfig` or `SwinConfig`.
        image_size: height and width in pixels.

    Raises:
        ValueError: patches do not tile the size.
    """
    if image_size != own.image_size:
        check_tiling(image_size, own.patch_size)
    config = dataclasses.replace(own, image_size=image_size)
    return config, table_resamplings(config, own.image_size) if isinstance(own, SwinConfig) else resamplings(config, own.grid)
