"""Fuzzed photographs for `fuzz.py`: every format and mode, with broken bytes, orientations and sizes."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_cases import Case, Wrong
from fuzz_mutations import broken_bytes
from hypothesis import strategies as st
from PIL import Image


def _pixels(mode: str, size: tuple[int, int] = (24, 17)) -> Image.Image:
    draw = np.random.default_rng(len(mode))
    rows = draw.integers(0, 256, (size[1], size[0], 4), np.uint8)
    rows[: size[1] // 2] //= 3  # not the same upside down
    if mode.startswith("I"):
        return (
            Image.fromarray(rows[..., 0].astype(np.uint16) * 257)
            if mode == "I;16"
            else Image.fromarray(rows[..., 0].astype(np.int32) * 257)
        )
    if mode == "F":
        return Image.fromarray(rows[..., 0].astype(np.float32) / 255)
    if mode == "PA":
        return Image.fromarray(rows, "RGBA").quantize(16)
    return Image.fromarray(rows[..., :3]).convert(mode)


def encoded(mode: str, kind: str, **options: Any) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    _pixels(mode).save(file, kind, **options)
    return file.getvalue()


def _oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    return exif


def photographs() -> dict[str, bytes]:
    """Valid ones: formats, modes, compressions, orientations, animations."""
    found = {f"{mode} {kind} {options}".replace("'", ""): encoded(mode, kind, **options) for mode, kind, options in _FORMS}
    frames = [_pixels("RGB"), _pixels("L").convert("RGB")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        found[f"two frames {kind}"] = file.getvalue()
    for orientation in range(1, 9):
        found[f"orientation {orientation}"] = encoded("RGB", "PNG" if orientation % 2 else "JPEG", exif=_oriented(orientation))
    return found


_FORMS: list[tuple[str, str, dict[str, Any]]] = [
    *(("RGB", "JPEG", {}), ("RGB", "JPEG", {"progressive": True}), ("L", "JPEG", {}), ("CMYK", "JPEG", {})),
    *((mode, "PNG", {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("P", "PNG", {"transparency": 3}), ("P", "PNG", {"transparency": bytes(range(200))}), ("PA", "PNG", {})),
    *(("RGB", "WEBP", {"lossless": True}), ("RGBA", "WEBP", {}), ("P", "GIF", {}), ("L", "GIF", {"transparency": 0}), ("RGB", "BMP", {})),
    *((mode, "TIFF", {}) for mode in ("1", "L", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F", "P")),
    *(("RGB", "TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
]

SUFFIXES = (".jpg", ".png", ".tif", ".gif", ".webp")


@st.composite
def photo_cases(draw: Any, seeds: dict[str, bytes]) -> Case:
    name = draw(st.sampled_from(sorted(seeds)))
    content, file = seeds[name], f"photo{draw(st.sampled_from(SUFFIXES))}"
    match draw(st.integers(0, 19)):
        case 0:  # what it was
            return Case({file: content}, content, name)
        case 1:  # the same pixels, turned, with an orientation that turns them back
            orientation = draw(st.integers(1, 8))
            out = io.BytesIO()
            _pixels("RGB").transpose(_TURNS[orientation]).save(out, "PNG", exif=_oriented(orientation)) if orientation > 1 else out.write(
                seeds["RGB PNG {}"]
            )
            return Case({file: out.getvalue()}, seeds["RGB PNG {}"], f"turned {orientation}")
        case 2:
            return Case({file: _resized_png(draw(st.sampled_from(_SIZES)), draw(st.sampled_from(_SIZES)))}, None, "dimensions")
    return Case({file: draw(broken_bytes(content, tuple(seeds.values())))}, None, name)


_SIZES = [0, 1, 2, 17, 1000, 12345, 13378, 2**16, 2**24, 2**31 - 1, 2**32 - 1]
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What undoes what a viewer does for an orientation."""


def _resized_png(width: int, height: int) -> bytes:
    """A PNG whose header states another size, with a checksum that fits."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


def check_photo(folder: Path, case: Case) -> None:
    """As a file, and as the bytes of an archive's member: the same answer, finite, of the right shape."""
    from dave_jax.models.preprocess import Preprocessing, load_photo

    preprocessing = Preprocessing(image_size=(64, 48))
    (file,) = (folder / name for name in case.files)
    upright = load_photo(file)
    if upright.mode != "RGB" or min(upright.size) < 1:
        raise Wrong(f"mode {upright.mode}, size {upright.size}")
    images = preprocessing(file)
    if images.shape != (1, 64, 48, 3) or images.dtype != np.float32 or not np.isfinite(images).all() or abs(images).max() > 1 + 1e-6:
        raise Wrong(f"shape {images.shape}, dtype {images.dtype}, finite {np.isfinite(images).all()}")
    if case.same_as is not None:
        (folder / "same.bin").write_bytes(case.same_as)
        if not np.array_equal(images, preprocessing(folder / "same.bin")):
            raise Wrong("another picture than the one that it is")
