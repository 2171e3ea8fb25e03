"""Regions: where the object is, in a model's frame; moved by the same resize and crop as the photograph."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from dave_jax.models.preprocess import Preprocessing


def boxes_to_region(boxes: Any, photo_size: tuple[int, int], preprocessing: Preprocessing) -> Bool[np.ndarray, "h w"]:
    """The union of boxes in a model's frame.

    A pixel of the photograph belongs to a box that holds its centre, one of the model's frame to the region if at least half of what was
    resampled into it does. The result can be empty, where the crop cuts the object away: `region.any()` tells.

    Args:
        boxes: one or several (x0, y0, x1, y1), in pixels of the photograph from its upper left corner; edges may lie on its border.
        photo_size: height and width of the photograph, upright as `load_photo` gives it.
        preprocessing: of the model.

    Raises:
        ValueError: no box; one without area, not finite, or outside the photograph.

    Example:
        >>> boxes_to_region([[0, 0, 4, 2]], (8, 8), Preprocessing(image_size=(4, 4), crop_fraction=1.0)).astype(int)[:2].tolist()
        [[1, 1, 0, 0], [0, 0, 0, 0]]
    """
    height, width = photo_size
    corners = np.asarray(boxes, np.float64)
    corners = corners[None] if corners.ndim == 1 else corners
    if corners.ndim != 2 or corners.shape[1] != 4 or not len(corners):
        raise ValueError(f"boxes must be one or several (x0, y0, x1, y1); got an array of shape {np.shape(boxes)}.")
    for left, top, right, bottom in corners.tolist():
        if not (left < right and top < bottom):  # NaN fails too
            raise ValueError(f"A box is (x0, y0, x1, y1) with x0 < x1 and y0 < y1; got {(left, top, right, bottom)}. Is it (x, y, w, h)?")
        if left < 0 or top < 0 or right > width or bottom > height:
            raise ValueError(
                f"A box must lie inside its photograph, 0 to {width} across and 0 to {height} down; got {(left, top, right, bottom)}. "
                "Was it made for the photograph at another size, or before its EXIF rotation?"
            )
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    inside = np.zeros((height, width), bool)
    for left, top, right, bottom in corners:
        inside |= (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    return _in_frame(inside, preprocessing)


def mask_to_region(
    mask: Any, photo_size: tuple[int, int], preprocessing: Preprocessing, *, frame: Preprocessing | None = None
) -> Bool[np.ndarray, "h w"]:
    """A mask in a model's frame.

    Args:
        mask: (h, w), the object where it is not zero.
        photo_size: height and width of the photograph, upright as `load_photo` gives it.
        preprocessing: of the model.
        frame: what the mask shows: None for the whole photograph, else what that preprocessing shows of it; `model.preprocessing` takes the
            mask as it is. What lies outside that frame is taken not to be the object.

    Raises:
        ValueError: the mask is not of its frame's size.

    Example:
        >>> preprocessing = Preprocessing(image_size=(2, 2), crop_fraction=0.5)
        >>> mask_to_region(np.eye(4), (4, 4), preprocessing).tolist()
        [[True, False], [False, True]]
    """
    inside = np.asarray(mask) != 0
    expected = photo_size if frame is None else frame.image_size
    if inside.shape != tuple(expected):
        hints = {
            tuple(photo_size): "It has the photograph's size: pass frame=None.",
            preprocessing.image_size: "It has the model's size: pass frame=model.preprocessing if it shows what the model sees.",
        }
        hint = hints.get(inside.shape, "Resize it to the photograph.")
        whose = "photograph" if frame is None else "frame"
        raise ValueError(f"A mask must have the shape of its {whose}, {tuple(expected)}; got {inside.shape}. {hint}")
    if frame is None:
        return _in_frame(inside, preprocessing)
    width, height = frame.resized(photo_size[1], photo_size[0])
    if frame.image_size == preprocessing.image_size and preprocessing.resized(photo_size[1], photo_size[0]) == (width, height):
        return inside
    whole = np.zeros((height, width), bool)
    down, across = (_cut(edge, crop) for edge, crop in zip((height, width), frame.image_size, strict=True))
    whole[down[0], across[0]] = inside[down[1], across[1]]
    return _in_frame(whole, preprocessing, photo_size)


def _cut(edge: int, crop: int) -> tuple[slice, slice]:
    """The same stretch in a resized edge and in the centre crop of it."""
    start = -((crop - edge) // 2) if edge < crop else round((edge - crop) / 2)  # as `Preprocessing` places them
    low, high = max(0, start), min(edge, start + crop)
    return slice(low, high), slice(low - start, high - start)


def _in_frame(inside: np.ndarray, preprocessing: Preprocessing, photo_size: tuple[int, int] | None = None) -> np.ndarray:
    picture = Image.fromarray(np.where(inside, 255, 0).astype(np.uint8))
    if photo_size is not None:
        picture = picture.resize((photo_size[1], photo_size[0]), Image.Resampling.BILINEAR)
    plain = dataclasses.replace(preprocessing, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return plain(picture)[0, ..., 0] >= 0.5
