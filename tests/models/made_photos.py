"""Photographs that nobody took."""

import numpy as np
from PIL import Image


def noise_photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth enough that resampling keeps structure, rough enough that a shift by one pixel shows."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def coordinates(width: int, height: int) -> Image.Image:
    """Red is the column, green the row: a crop shows where it was cut."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns, rows, np.full_like(rows, 255)], -1).astype(np.uint8))
