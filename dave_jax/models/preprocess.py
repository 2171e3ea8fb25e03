"""`Preprocessing`: from photographs to the normalised images that a model takes, exactly as timm evaluates (Pillow resize, centre crop)."""

import dataclasses
import io
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

Photo = str | os.PathLike | Image.Image | np.ndarray | jax.Array
"""A photograph: a file, a PIL image, or an array (h, w), (h, w, 3) or (h, w, 4) of uint8, uint16, or floats in [0, 1]."""

_RESAMPLING = {name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")}
_CROP_MODES = ("center", "squash", "border")
_CROP_STARTS = ("even", "down")

MOST_PIXELS = 2**28
"""Of a photograph that is resized, before its centre is cut out: more is a strip rather than a photograph, and would not fit anywhere."""

_MOST_EDGE = 2**14

_LARGEST = 1e6  # means, deviations and their inverses: float32 must hold what is divided by them


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Resize, crop and normalise photographs as timm's evaluation transform does, in Pillow's 8-bit arithmetic.

    A photograph is resized towards `floor(image_size / crop_fraction)`, its centre of `image_size` is cut out, and the pixels p in [0, 1]
    become `(p - mean) / std`. Where the resized photograph is smaller than the crop, a border fills the rest.

    transformers' processors for Pillow do the same but for where the crop starts (`crop_start`).

    Attributes:
        image_size: height and width of the result, in pixels.
        mean: of each channel, subtracted from pixels in [0, 1].
        std: of each channel, divided by.
        crop_fraction: the share of the resized edge that the crop keeps (timm's `crop_pct`).
        crop_mode: `center` keeps the aspect and resizes the shortest edge, `squash` resizes both edges and ignores the aspect, `border`
            keeps the aspect, resizes the longest edge and fills the border with `mean`.
        interpolation: Pillow's resampling filter; all but `nearest` are antialiased.
        crop_start: half the excess of the resized edge over the crop, where that is no whole pixel: `even`, a tie to the even pixel (timm),
            or `down` (transformers).

    Example:
        >>> preprocessing = Preprocessing(image_size=(8, 6))
        >>> images = preprocessing([Image.new("RGB", (40, 30), "white"), np.zeros((9, 9), np.uint8)])
        >>> images.shape, float(images[0].min()), float(images[1].max())
        ((2, 8, 6, 3), 1.0, -1.0)
    """

    image_size: tuple[int, int] = (224, 224)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    crop_fraction: float = 0.875
    crop_mode: Literal["center", "squash", "border"] = "center"
    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] = "bicubic"
    crop_start: Literal["even", "down"] = "even"

    def __post_init__(self):
        problems = []
        if not isinstance(self.image_size, tuple) or len(self.image_size) != 2 or min(self.image_size) < 1:
            problems.append(f"image_size must be a tuple of two positive integers; got {self.image_size!r}")
        for name, low in (("mean", -_LARGEST), ("std", 1 / _LARGEST)):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) != 3 or not all(low <= number <= _LARGEST for number in value):
                problems.append(f"{name} must be a tuple of three {'positive ' if low > 0 else ''}numbers; got {value!r}")
        if not 0.0 < self.crop_fraction < math.inf:
            problems.append(f"crop_fraction must be positive; got {self.crop_fraction}")
        for name, choices in (("crop_mode", _CROP_MODES), ("interpolation", tuple(_RESAMPLING)), ("crop_start", _CROP_STARTS)):
            if getattr(self, name) not in choices:
                problems.append(f"{name} must be one of {list(choices)}; got {getattr(self, name)!r}")
        if not problems and max(self.image_size) / min(self.crop_fraction, 1.0) > _MOST_EDGE:
            sizes = f"{self.image_size} of {self.crop_fraction}"
            problems.append(f"images, and what they are cut from, have at most {_MOST_EDGE} pixels an edge; got {sizes}")
        if problems:
            raise ValueError("Preprocessing: " + "; ".join(problems) + ".")

    def __call__(self, photos: Photo | Iterable[Photo]) -> Float[np.ndarray, "b h w 3"]:
        """One or several photographs, of any sizes, as a float32 batch of normalised images; an array (n, h, w, 3) is several.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: there is no photograph, or one cannot be read; the message names the file.
            TypeError: something else than a photograph.
        """
        if isinstance(photos, str | os.PathLike | Image.Image) or (isinstance(photos, np.ndarray | jax.Array) and photos.ndim < 4):
            photos = [photos]
        frames = [self._frame(load_photo(photo), _name(photo)) for photo in photos]
        if not frames:
            raise ValueError("There is no photograph to prepare: the list is empty. Pass at least one path, PIL image or array.")
        pixels = np.stack(frames).astype(np.float32) / np.float32(255)
        return (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)

    def denormalise(self, image: Float[Array | np.ndarray, "*batch h w 3"]) -> Float[np.ndarray, "*batch h w 3"]:
        """The pixels in [0, 1] of a normalised image or batch: `clip(image * std + mean, 0, 1)`."""
        pixels = np.asarray(image, np.float32) * np.array(self.std, np.float32) + np.array(self.mean, np.float32)
        return np.clip(pixels, 0.0, 1.0)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height to which a photograph of that size is resized before the crop."""
        target_height, target_width = (math.floor(edge / self.crop_fraction) for edge in self.image_size)
        if self.crop_mode == "squash":
            size = target_width, target_height
        elif self.crop_mode == "center" and target_height == target_width:  # timm truncates here, and rounds below
            short, long = sorted((width, height))
            long = int(target_height * long / short)
            size = (target_height, long) if width <= height else (long, target_height)
        else:
            ratios = height / target_height, width / target_width
            ratio = max(ratios) if self.crop_mode == "border" else min(ratios)
            size = round(width / ratio), round(height / ratio)
        return max(1, size[0]), max(1, size[1])

    def _frame(self, photo: Image.Image, name: str) -> UInt8[np.ndarray, "h w 3"]:
        size = self.resized(*photo.size)
        if size[0] * size[1] > MOST_PIXELS:
            raise ValueError(
                f"{name} is too narrow: {photo.width} x {photo.height} pixels would be resized to {size[0]} x {size[1]}. Crop it."
            )
        photo = photo.resize(size, _RESAMPLING[self.interpolation])
        height, width = self.image_size
        red, green, blue = (round(255 * value) for value in self.mean) if self.crop_mode == "border" else (0, 0, 0)
        frame = Image.new("RGB", (width, height), (red, green, blue))
        frame.paste(photo, (self._offset(photo.width, width), self._offset(photo.height, height)))
        return np.asarray(frame)

    def _offset(self, edge: int, crop: int) -> int:
        """Where a resized edge starts in the crop: half the border, rounded down, or minus half the excess, rounded by `crop_start`."""
        if edge < crop:
            return (crop - edge) // 2
        return -round((edge - crop) / 2) if self.crop_start == "even" else -((edge - crop) // 2)


def load_photo(photo: Photo) -> Image.Image:
    """A photograph as an RGB image, upright as its EXIF orientation says.

    Grey and palette images and CMYK are converted as Pillow does, without colour profiles. Transparency is dropped, as timm drops it: the
    model sees the colours stored under it. 16-bit grey is divided by 257. Of several frames the first counts.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is a folder, no photograph, or broken; an array of the wrong shape or range.
        TypeError: neither a path, a PIL image nor an array of uint8, uint16 or floats.
    """
    if isinstance(photo, Image.Image):
        return _to_rgb(ImageOps.exif_transpose(photo), "the PIL image")
    if isinstance(photo, np.ndarray | jax.Array):
        return _from_array(np.asarray(photo))
    if not isinstance(photo, str | os.PathLike):
        raise TypeError(f"A photograph is a path, a PIL image or an array; got {type(photo).__name__}.")
    path = Path(photo)
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder, not a photograph. Pass the files in it.")
    return decode_photo(path, repr(str(path)))


def decode_photo(file: Path | io.BytesIO, name: str) -> Image.Image:
    """A photograph in a file as an RGB image, upright: see `load_photo`.

    Args:
        file: its path, or its bytes as a file.
        name: what to call it in errors.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: no photograph, or broken.
    """
    try:
        with Image.open(file) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # a copy would double the memory
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file {name}. Check the path of the photograph.") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not a photograph in a format that Pillow reads. Convert it to JPEG or PNG.") from error
    except Exception as error:  # a damaged file can raise anything in a decoder
        raise ValueError(f"{name} cannot be read as a photograph ({error}). Replace it by an intact JPEG or PNG.") from error
    return _to_rgb(image, name)


def _name(photo: Photo) -> str:
    return repr(os.fspath(photo)) if isinstance(photo, str | os.PathLike) else "the photograph"


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):  # Pillow would clip these at 255
        values = np.asarray(image)
        whole = image.mode != "F"
        if not values.size or values.min() < 0 or values.max() > (65535 if whole else 1) or np.isnan(values).any():
            raise ValueError(f"{name} has pixels outside [0, {65535 if whole else 1}] (mode {image.mode}). Convert it to 8 bits a channel.")
        image = Image.fromarray(_to_bytes(values.astype(np.uint16) if whole else values))
    try:
        if image.mode in ("P", "PA", "LA"):
            image = image.convert("RGBA")
        return image.convert("RGB")
    except ValueError as error:
        raise ValueError(f"{name} has colours (mode {image.mode}) that Pillow does not turn into RGB. Save it as an RGB image.") from error


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"A photograph as an array has shape (h, w), (h, w, 3) or (h, w, 4), channels last; got {array.shape}.")
    if array.dtype not in (np.uint8, np.uint16) and not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"A photograph as an array holds uint8, uint16 or floats in [0, 1]; got {array.dtype}. Convert it with astype.")
    if np.issubdtype(array.dtype, np.floating) and not (array.min() >= 0 and array.max() <= 1):
        low, high = array.min(), array.max()
        raise ValueError(f"A photograph of floats has values in [0, 1]; got [{low:g}, {high:g}]. Divide 8-bit values by 255.")
    pixels = _to_bytes(array)
    return _to_rgb(Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels), "the array")


def _to_bytes(array: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """Floats in [0, 1], uint16 or uint8 as uint8, rounded."""
    if array.dtype == np.uint8:
        return array
    return np.round(array.astype(np.float64) * (255 / (65535 if array.dtype == np.uint16 else 1))).astype(np.uint8)
