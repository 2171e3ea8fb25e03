"""Uploads: what is refused, before it is decoded, and in which words."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dave_jax.app.limits import Limits, open_photo
from dave_jax.models.preprocess import Preprocessing, load_photo

LIMITS = Limits(megabytes=0.05, megapixels=0.01)
SMALL = Preprocessing(image_size=(16, 16), crop_fraction=1.0)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    """The header of a picture of that size, with a few bytes for its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(101, 100), "101 x 100 pixels; the limit is 0.01 million"),
        (png(30_000, 30_000), "pixels"),  # beyond Pillow's own limit: an error of Pillow's becomes one of ours
        (png(2_000, 2), "too narrow a strip"),  # few pixels here, 16 000 x 16 after the resize
        (png(50, 50), "is damaged"),
        (b"\0" * 50_001, "0.1 MB; the limit is 0.05 MB"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>", "not a photograph in a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not a photograph in a known format"),  # no Ghostscript is started
        (b"", "not a photograph"),
    ],
    ids=["large", "bomb", "strip", "damaged", "heavy", "svg", "postscript", "empty"],
)
def test_what_is_refused(content, message, tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        open_photo(path, LIMITS, SMALL)
    assert str(tmp_path) not in str(error.value)  # visitors are not told where files are


def test_a_bomb_is_not_decoded(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.new("1", (2000, 2000)).save(path)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="2000 x 2000"):
        open_photo(path, LIMITS, SMALL)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tiff"])
def test_what_is_taken(suffix, tmp_path):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    np.testing.assert_array_equal(open_photo(path, LIMITS, SMALL), load_photo(path))


def test_limits_are_positive():
    assert (Limits(0.5, 2.0).bytes, Limits(0.5, 2.0).pixels) == (500_000, 2_000_000)
    with pytest.raises(ValueError, match="megapixels must be positive; got 0"):
        Limits(megapixels=0.0)
