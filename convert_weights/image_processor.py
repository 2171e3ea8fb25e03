"""transformers' `preprocessor_config.json`: how photographs become a checkpoint's images."""

import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

from convert_weights.options import pair
from dave_jax.models.preprocess import Preprocessing

_IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_HALF, _CLIP = ([0.5] * 3, [0.5] * 3), ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
_SQUARE, _SHORTEST = {"height": 224, "width": 224}, {"shortest_edge": 224}
_CROP = {"do_center_crop": True, "crop_size": _SQUARE}


def _defaults(size: Any, resample: int, statistics: tuple[list[float], list[float]], **others: Any) -> dict[str, Any]:
    return {"size": size, "resample": resample, "image_mean": statistics[0], "image_std": statistics[1], **others}


_PROCESSORS = {
    "ViT": _defaults(_SQUARE, 2, _HALF),
    "DeiT": _defaults({"height": 256, "width": 256}, 3, _HALF, **_CROP),
    "Bit": _defaults(_SHORTEST, 3, _CLIP, **_CROP),
    "CLIP": _defaults(_SHORTEST, 3, _CLIP, **_CROP),
    "Siglip": _defaults(_SQUARE, 3, _HALF),
    "Beit": _defaults(_SQUARE, 3, _HALF, crop_size=_SQUARE),
    "ConvNext": _defaults({"shortest_edge": 384}, 3, _HALF, crop_pct=224 / 256),
    "DINOv3ViT": _defaults(_SQUARE, 2, _IMAGENET),
}
"""What transformers assumes where the file is silent, by the class of the processor without its endings."""

_WHOLE_NUMBER_IS_SHORTEST_EDGE = ("Bit", "CLIP", "Siglip", "ConvNext")
"""The processors that read a size of one number so; for the others it is height and width."""

_CONVNEXT_SQUASHED = 384
"""The edge from which on ConvNext's processor squashes a photograph to a square; smaller ones are cut out of it."""

_ENDINGS = ("Pil", "Fast", "ImageProcessor", "FeatureExtractor")
_NOT_SUPPORTED = ("do_pad", "do_flip_channel_order", "do_thumbnail", "do_align_long_axis", "crop_pct", "rescale_offset", "use_square_size")


def read_preprocessing(
    document: Mapping[str, Any], *, processor: str, image_size: tuple[int, int] | None = None, what: str = "preprocessor_config.json"
) -> Preprocessing:
    """Read a `preprocessor_config.json`.

    Args:
        document: the file's JSON.
        processor: the class that it is for, where it names none: one of `ViT`, `DeiT`, `Bit`, `CLIP`, `Siglip`, `Beit`, `ConvNext`,
            `DINOv3ViT`.
        image_size: height and width, if not the file's.
        what: what to call the file in errors.

    Raises:
        ValueError: an unknown processor, or steps that `Preprocessing` does not have.

    Example:
        >>> document = {"size": {"shortest_edge": 256}, "crop_size": 224, "image_processor_type": "BitImageProcessor"}
        >>> read = read_preprocessing(document, processor="ViT")
        >>> read.image_size, read.crop_fraction, read.crop_mode, read.interpolation
        ((224, 224), 0.875, 'center', 'bicubic')
    """
    try:
        return _read(document, processor, image_size)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        reason = error if isinstance(error, ValueError) else f"it is not laid out so ({error!r})"
        raise ValueError(
            f"{what} must say how photographs become images, in steps that dave_jax has (resize, centre crop, normalise): {reason} "
            "Correct it, or prepare the images with transformers and pass the arrays."
        ) from error


def _read(document: Mapping[str, Any], processor: str, image_size: tuple[int, int] | None) -> Preprocessing:
    name = str(document.get("image_processor_type") or document.get("feature_extractor_type") or processor)
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    if name not in _PROCESSORS:
        raise ValueError(f"the processor {name!r} is none of {list(_PROCESSORS)}.")
    settings = _PROCESSORS[name] | {key: value for key, value in document.items() if value is not None}
    unknown = [step for step in _NOT_SUPPORTED if settings.get(step) and (name, step) != ("ConvNext", "crop_pct")]
    problems = [f"{step}={settings[step]!r} is not supported" for step in unknown]
    for step in ("do_resize", "do_rescale"):
        if not settings.get(step, True):
            problems.append(f"{step}=false is not supported")
    if not math.isclose(factor := settings.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-6):
        problems.append(f"rescale_factor must be 1/255; got {factor!r}")
    if problems:
        raise ValueError("; ".join(problems) + ".")
    mean, std = (settings["image_mean"], settings["image_std"]) if settings.get("do_normalize", True) else ([0.0] * 3, [1.0] * 3)
    resized = _edges(settings["size"], shortest=name in _WHOLE_NUMBER_IS_SHORTEST_EDGE)
    if name == "ConvNext":
        resized, cropped = _convnext_edges(resized, settings)
    elif settings.get("do_center_crop"):
        cropped = _edges(settings["crop_size"], shortest=False)
    elif len(resized) == 2:
        cropped = resized
    else:
        raise ValueError(f"size={settings['size']!r} without a centre crop gives images of different shapes.")
    if len(resized) == 1 and cropped[0] != cropped[1]:
        raise ValueError(f"a shortest edge (size={settings['size']!r}) needs a square crop; got crop_size={settings['crop_size']!r}.")
    return Preprocessing(
        image_size=image_size or (cropped[0], cropped[-1]),
        mean=_triple(mean),
        std=_triple(std),
        crop_fraction=_fraction(cropped, resized if len(resized) == 2 else 2 * resized),
        crop_mode="squash" if len(resized) == 2 else "center",
        interpolation=Image.Resampling(settings["resample"]).name.lower(),  # pyright: ignore[reportArgumentType] checked there
        crop_start="down",
    )


def _convnext_edges(size: tuple[int, ...], settings: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, int]]:
    """What ConvNext's processor resizes to, and what it cuts out: below 384 pixels a share of the shortest edge, else all, squashed."""
    if len(size) != 1 or settings.get("do_center_crop"):
        raise ValueError(f"ConvNext's processor has a shortest_edge and no crop of its own; got size={settings['size']!r}.")
    edge = size[0]
    return ((int(edge / settings["crop_pct"]),) if edge < _CONVNEXT_SQUASHED else (edge, edge)), (edge, edge)


def _edges(size: Any, *, shortest: bool) -> tuple[int, ...]:
    """Height and width, or the shortest edge alone."""
    if isinstance(size, Mapping):
        keys = {key for key, value in size.items() if value is not None}
        if keys == {"shortest_edge"}:
            return (int(size["shortest_edge"]),)
        if keys != {"height", "width"}:
            raise ValueError(f"a size has height and width, or shortest_edge; got {dict(size)}.")
        return int(size["height"]), int(size["width"])
    return (int(size),) if shortest and isinstance(size, int) else pair(size)


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = [values] * 3 if isinstance(values, (int, float)) else values
    return float(red), float(green), float(blue)


def _fraction(cropped: tuple[int, ...], resized: tuple[int, ...]) -> float:
    """The share of the resized edges that the crop keeps; `floor(crop / share)` gives the edges back."""
    for crop, edge in zip(cropped, resized, strict=True):
        if not 0 < crop <= edge:
            raise ValueError(f"the crop must be positive and no larger than the resized image; got {cropped} of {resized}.")
        fraction = crop / edge
        if math.floor(crop / fraction) < edge:
            fraction = math.nextafter(fraction, 0)
        if all(math.floor(crop / fraction) == edge for crop, edge in zip(cropped, resized, strict=True)):
            return fraction
    raise ValueError(f"the crop must have the aspect of the resized image; got {cropped} of {resized}.")
