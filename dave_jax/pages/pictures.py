"""Photographs and maps as files of a page: a map is a picture of its own, transparent where there is no heat, and lies over its photograph.

With opacity 1 over the faded photograph this is `dave_jax.plot.overlay`.
"""

import io

import numpy as np
from jaxtyping import Float
from PIL import Image

from dave_jax.plot import colours

_LEVELS = np.arange(256) / 255


def heat_png(heat: Float[np.ndarray, "h w"]) -> bytes:
    """A heat map as a PNG with a palette of 256 levels of `s = sqrt(heat)`: colour `inferno(0.3 + 0.7 s)`, opacity `s`.

    Example:
        >>> layer = Image.open(io.BytesIO(heat_png(np.array([[0.0, 1.0]])))).convert("RGBA")
        >>> layer.getpixel((0, 0))[3], layer.getpixel((1, 0))[3]
        (0, 255)
    """
    levels = np.round(255 * np.sqrt(np.clip(np.asarray(heat, np.float32), 0.0, 1.0))).astype(np.uint8)
    image = Image.fromarray(levels)
    image.putpalette(np.round(255 * colours(0.3 + 0.7 * _LEVELS, "inferno")).astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", transparency=bytes(range(256)))
    return file.getvalue()


def photo_jpeg(pixels: Float[np.ndarray, "h w 3"]) -> bytes:
    """Pixels in [0, 1] as a JPEG.

    Example:
        >>> Image.open(io.BytesIO(photo_jpeg(np.zeros((4, 6, 3))))).size
        (6, 4)
    """
    file = io.BytesIO()
    Image.fromarray(np.round(255 * pixels).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()
