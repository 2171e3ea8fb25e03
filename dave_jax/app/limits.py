"""What may be uploaded: so many bytes, so many pixels, in the formats of photographs. Checked before a pixel is decoded."""

import contextlib
import dataclasses
import os
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from dave_jax.models.preprocess import Preprocessing, load_photo

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""As Pillow calls them; other decoders are never started."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Of an upload.

    Attributes:
        megabytes: of the file, in 10^6 bytes.
        megapixels: of the photograph, in 10^6; also of what it becomes when a model's preprocessing resizes it.
    """

    megabytes: float = 20.0
    megapixels: float = 50.0

    def __post_init__(self):
        for name in ("megabytes", "megapixels"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}.")

    @property
    def bytes(self) -> int:
        """The largest file."""
        return int(1e6 * self.megabytes)

    @property
    def pixels(self) -> int:
        """The largest photograph."""
        return int(1e6 * self.megapixels)


def open_photo(path: str | os.PathLike, limits: Limits, preprocessing: Preprocessing) -> Image.Image:
    """A photograph as RGB, after its header has told that it is small enough.

    Args:
        path: of the file.
        limits: what may be uploaded.
        preprocessing: of the model that will see it; it enlarges a strip of few pixels to one of many.

    Raises:
        ValueError: too large a file or picture, another format, or broken; the message is for whoever uploaded it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("1", (3000, 2000)).save(f"{folder}/bomb.png")
        ...     open_photo(f"{folder}/bomb.png", Limits(megapixels=1.0), Preprocessing())
        Traceback (most recent call last):
        ValueError: This photograph has 3000 x 2000 pixels; the limit is 1 million. Make it smaller.
    """
    size = Path(path).stat().st_size
    if size > limits.bytes:
        raise ValueError(f"This file has {size / 1e6:.1f} MB; the limit is {limits.megabytes:g} MB. Make it smaller.")
    with _opened(path) as image:
        width, height = image.size
        if width * height > limits.pixels:
            raise ValueError(f"This photograph has {width} x {height} pixels; the limit is {limits.megapixels:g} million. Make it smaller.")
        resized = preprocessing.resized(width, height)
        if resized[0] * resized[1] > limits.pixels:
            raise ValueError(f"This photograph is too narrow a strip: {width} x {height} pixels. Cut a part out of it.")
        try:
            image.load()
        except Exception as error:  # a damaged file can raise anything in a decoder
            raise ValueError(f"This photograph is damaged ({error}). Save it again as JPEG or PNG.") from error
        return load_photo(image)


def _opened(path: str | os.PathLike) -> contextlib.AbstractContextManager[Image.Image]:
    """The file with its header read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limits are ours
        try:
            return Image.open(path, formats=FORMATS)
        except UnidentifiedImageError as error:
            known = ", ".join(FORMATS[:-1])
            raise ValueError(f"This is not a photograph in a known format. Use {known} or {FORMATS[-1]}.") from error
        except Image.DecompressionBombError as error:
            raise ValueError("This photograph has far too many pixels for its file. Make it smaller.") from error
        except Exception as error:
            raise ValueError(f"This photograph is damaged ({error}). Save it again as JPEG or PNG.") from error
