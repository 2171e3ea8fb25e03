"""timm's `config.json`: what network, images and classes a checkpoint is for.

Newer files hold `architecture`, `num_classes`, `model_args` (constructor options) and `pretrained_cfg` (images); older ones are flat. The
constructor options that are not in the file come from the shipped table of architectures.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from convert_weights import timm, timm_beit, timm_convnext, timm_eva, timm_resnet, timm_swin, timm_swinv2
from convert_weights.architectures import architectures, near_names
from convert_weights.options import pair
from dave_jax.models.positions import check_tiling
from dave_jax.models.preprocess import Preprocessing

_CONVERTERS: dict[str, Any] = {
    **{"vit": timm, "eva": timm_eva, "beit": timm_beit, "swin": timm_swin, "swinv2": timm_swinv2},
    **{"resnet": timm_resnet, "convnext": timm_convnext},
}
"""By family of timm's."""

_TRANSFORMERS = ("vit", "eva", "beit")
"""The families whose networks are vision transformers of ours."""

_SWINS = ("swin", "swinv2")
"""Those whose networks are Swin transformers of ours."""

_CLASS_DEFAULTS = {
    **{"vision_transformer": "vit", "eva": "eva", "beit": "beit", "swin_transformer": "swin", "swin_transformer_v2": "swinv2"},
    **{"resnet": "resnet", "convnext": "convnext"},
}
"""The architectures whose options are the defaults of timm's class, and their families."""

_IMAGE_DEFAULTS = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.875,
    "crop_mode": "center",
    "interpolation": "bicubic",
}
"""What timm assumes where neither the file nor the table says it."""

_OTHER_RESAMPLING = ("flexi", "radio")
"""Parts of the names whose position embeddings timm resamples in another way than the others'."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What the files beside a checkpoint say about it.

    Attributes:
        architecture: timm's name, without a tag.
        timm_family: which of timm's: `vit`, `eva`, `beit`, `swin`, `swinv2`, `resnet` or `convnext`.
        config: the network, a transformer's for the images that were asked for.
        checkpoint_size: height and width of the images that the checkpoint is for.
        preprocessing: from photographs to those images.
        class_names: one for each class, where the file has them all.
    """

    architecture: str
    timm_family: str
    config: Any
    checkpoint_size: tuple[int, int]
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None

    @property
    def family(self) -> str:
        """Of the network: `vit`, `swin`, `resnet` or `convnext`."""
        if self.timm_family in _SWINS:
            return "swin"
        return "vit" if self.timm_family in _TRANSFORMERS else self.timm_family

    @property
    def not_needed(self) -> tuple[str, ...]:
        """How the keys begin that the checkpoint may hold and the network does not have.

        SigLIP's averaging networks (`gap`) share checkpoints with those that pool by attention; timm leaves those arrays out too.
        """
        return ("attn_pool.",) if "siglip" in self.architecture and self.config.pooling != "map" else ()

    def params(self, arrays: Mapping[str, np.ndarray], *, what: str = "the checkpoint", dtype: Any = np.float32) -> dict[str, Any]:
        """The parameters that a timm state dict holds, of type `dtype`, on the default device; `what` to call it in errors.

        Raises:
            ConversionError: listing missing, leftover and misshapen arrays.
        """
        options: dict[str, Any] = {"checkpoint_size": self.checkpoint_size} if self.family in ("vit", "swin") else {}
        if self.family == "vit":
            options["not_needed"] = self.not_needed
        return _CONVERTERS[self.timm_family].params_from_arrays(arrays, self.config, what=what, dtype=dtype, **options)


def describe(
    document: Mapping[str, Any],
    *,
    architecture: str | None = None,
    tag: str | None = None,
    image_size: tuple[int, int] | None = None,
    what: str = "config.json",
) -> Description:
    """Read a `config.json`, with the table of architectures for what it lacks.

    Args:
        document: the file's JSON.
        architecture: timm's name, to take instead of the file's (several architectures share a repository).
        tag: of the pretrained weights, to take instead of the file's.
        image_size: height and width, if not the checkpoint's.
        what: what to call the file in errors.

    Raises:
        ValueError: an architecture or option that is not known, an image size that the patches do not tile, or malformed settings.

    Example:
        >>> read = describe({"architecture": "vit_small_patch14_dinov2", "num_classes": 5}, image_size=(56, 70))
        >>> read.config.grid, read.checkpoint_size
        ((4, 5), (518, 518))
    """
    try:
        return _describe(document, architecture, tag, image_size, what)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{what} must be laid out as timm writes it; it is not ({error!r}). Compare it with another model's.") from error


def _describe(
    document: Mapping[str, Any], architecture: str | None, tag: str | None, image_size: tuple[int, int] | None, what: str
) -> Description:
    settings = _non_null(document.get("pretrained_cfg") or document)
    architecture = architecture or _architecture(document, what)
    entry = _entry(architecture, what)
    known = entry["tags"].get(tag or settings.get("tag"), {})
    settings = _IMAGE_DEFAULTS | known | settings
    options = dict(entry["options"])
    if "num_classes" in settings:
        options["num_classes"] = settings["num_classes"]
    if "input_size" in settings:
        options["in_chans"], *options["img_size"] = settings["input_size"]
    if document.get("global_pool"):
        options["global_pool"] = document["global_pool"]
    options |= document.get("model_args") or {}
    if document.get("num_classes") is not None:
        options["num_classes"] = document["num_classes"]
    checkpoint_size = pair(options.get("img_size") or 224)
    size = image_size or checkpoint_size
    if entry["family"] in (*_TRANSFORMERS, *_SWINS):
        options = _non_null(options) | {"img_size": size}
        patch_size = pair(options.get("patch_size", 4 if entry["family"] in _SWINS else 16))
        if image_size or entry["family"] != "vit":  # a VisionTransformer's own size may leave pixels over, as in timm
            check_tiling(size, patch_size)
        _check_resampling(architecture, checkpoint_size, size, patch_size)
    else:  # takes images of any size
        options.pop("img_size", None)
    config = _CONVERTERS[entry["family"]].config_from_options(options)
    try:
        preprocessing = Preprocessing(
            image_size=size,
            mean=_triple(settings["mean"]),
            std=_triple(settings["std"]),
            crop_fraction=float(settings["crop_pct"]),
            crop_mode=settings["crop_mode"],
            interpolation=settings["interpolation"],
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{what} must say how photographs become images (mean, std, crop_pct, crop_mode, interpolation); correct it: {error}"
        ) from error
    names = _class_names(document, settings, config.num_classes)
    return Description(architecture, entry["family"], config, checkpoint_size, preprocessing, names)


def _non_null(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if value is not None}


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _architecture(document: Mapping[str, Any], what: str) -> str:
    name = document.get("architecture")
    if not isinstance(name, str):
        raise ValueError(
            f'{what} must name a timm architecture, as in {{"architecture": "vit_base_patch16_224"}}; it names none. '
            "Save the model with timm (timm.models.save_for_hf), or write a config.json."
        )
    return name.partition(".")[0]


def _entry(architecture: str, what: str) -> dict[str, Any]:
    if architecture in _CLASS_DEFAULTS:
        return {"family": _CLASS_DEFAULTS[architecture], "options": {}, "tags": {}}
    if architecture not in architectures():
        raise ValueError(
            f"dave_jax loads the architectures of timm's VisionTransformer, Eva, Beit, SwinTransformer, SwinTransformerV2, ResNet and "
            f"ConvNeXt; {architecture!r}, named by {what}, is another kind of network or misspelt. "
            f"{near_names(architecture, list(architectures()))} One of these classes under a name of your own: write one of "
            f"{list(_CLASS_DEFAULTS)}, and its constructor options as model_args."
        )
    return architectures()[architecture]


def _check_resampling(architecture: str, own: tuple[int, int], size: tuple[int, int], patch: tuple[int, int]) -> None:
    other = any(part in architecture for part in _OTHER_RESAMPLING)
    if other and any(edge // step != mine // step for edge, mine, step in zip(size, own, patch, strict=True)):
        raise ValueError(
            f"timm resamples the position embedding of {architecture} in a way of its own (bilinear, not antialiased), which dave_jax does "
            f"not have. Load it for the checkpoint's images: image_size={own}."
        )


def _class_names(document: Mapping[str, Any], settings: Mapping[str, Any], count: int) -> tuple[str, ...] | None:
    """Descriptions where there are any, else names; None unless there is one for each class."""
    names = document.get("label_names") or settings.get("label_names") or settings.get("labels") or ()
    descriptions = document.get("label_descriptions") or settings.get("label_descriptions") or {}
    if isinstance(names, Mapping):  # by class number, for gaps
        names = [names.get(str(index)) for index in range(count)] if len(names) == count else ()
    if not isinstance(names, (list, tuple)) or len(names) != count or not count or None in names:
        return None
    return tuple(str(descriptions.get(name, name)) for name in names)
