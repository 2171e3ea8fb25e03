"""Every kind of file, mode and array is read as a photograph; what is none is named."""

import io
import struct

import numpy as np
import pytest
from made_photos import coordinates, noise_photo
from PIL import Image, ImageOps

from dave_jax.models.preprocess import Preprocessing, load_photo


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation, tmp_path):
    photo = coordinates(40, 30)
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # the orientation that is the inverse of each
    stored = ImageOps.exif_transpose(with_orientation(photo, undo[orientation])) if orientation > 1 else photo
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif(orientation))
    for loaded in (load_photo(path), load_photo(with_orientation(stored, orientation))):
        np.testing.assert_array_equal(np.asarray(loaded), np.asarray(photo))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def with_orientation(photo: Image.Image, orientation: int) -> Image.Image:
    """The same, read back from a file, with the tag."""
    file = io.BytesIO()
    photo.save(file, "png", exif=exif(orientation))
    return Image.open(file)


def grey_levels() -> np.ndarray:
    return np.arange(0, 240, dtype=np.uint8).reshape(12, 20)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "RGB", "I;16", "F"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    grey = Image.fromarray(grey_levels())
    expected = np.repeat(grey_levels()[..., None], 3, 2)
    if mode == "1":
        photo, expected = grey.point(lambda value: 255 * (value > 99)).convert("1"), np.where(expected > 99, 255, 0)
    elif mode == "I;16":
        photo = Image.fromarray(grey_levels().astype(np.uint16) * 257)
    elif mode == "F":
        photo = Image.fromarray(grey_levels().astype(np.float32) / 255)
    else:
        photo = grey.convert(mode) if mode in ("P", "LA") else grey.convert("RGB").convert(mode)
    suffix = {"CMYK": "tif", "YCbCr": "tif", "F": "tif"}.get(mode, "png")
    compression = {"compression": "tiff_lzw"} if suffix == "tif" else {}  # some Pillows cannot read raw YCbCr that they wrote
    photo.save(tmp_path / f"photo.{suffix}", **compression)
    for loaded in (load_photo(photo), load_photo(tmp_path / f"photo.{suffix}")):
        assert loaded.mode == "RGB"
        # YCbCr's integer matrix is not its inverse's to the last level
        np.testing.assert_allclose(np.asarray(loaded), expected, rtol=0, atol=mode == "YCbCr")


def test_palettes_are_looked_up_and_transparency_is_dropped(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([250, 10, 20, 30, 240, 50])
    palette.putdata([0, 1])
    palette.save(tmp_path / "bytes.png", transparency=b"\x00\x80")
    palette.save(tmp_path / "index.png", transparency=1)
    seethrough = Image.new("RGBA", (2, 1), (250, 10, 20, 0))
    seethrough.putpixel((1, 0), (30, 240, 50, 255))
    for photo in (tmp_path / "bytes.png", tmp_path / "index.png", seethrough, np.asarray(seethrough)):
        assert np.asarray(load_photo(photo)).tolist() == [[[250, 10, 20], [30, 240, 50]]]


def test_grey_and_one_channel_arrays():
    expected = np.repeat(grey_levels()[..., None], 3, 2)
    for array in (grey_levels(), grey_levels()[..., None], grey_levels().astype(np.float64) / 255):
        np.testing.assert_array_equal(np.asarray(load_photo(array)), expected)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.jpg'.*Check the path"):
        load_photo(tmp_path / "absent.jpg")
    with pytest.raises(ValueError, match="is a folder, not a photograph"):
        load_photo(tmp_path)


@pytest.mark.parametrize("content", [b"", b"just a text\n", b"%PDF-1.7\n"])
def test_a_file_that_is_no_photograph_is_named(content, tmp_path):
    (tmp_path / "notes.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"notes\.jpg' is not a photograph .*Convert it to JPEG or PNG"):
        Preprocessing()([Image.new("RGB", (9, 9)), tmp_path / "notes.jpg"])


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif"])
def test_a_cut_off_file_is_named(suffix, tmp_path):
    path = tmp_path / f"broken.{suffix}"
    noise_photo(64, 48).save(path)
    content = path.read_bytes()
    for length in (len(content) // 2, 40, 20):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"broken\.{suffix}' (cannot be read as|is not) a photograph"):
            load_photo(path)


def test_a_file_that_claims_to_be_huge_is_refused(tmp_path):
    """A header of 60000 x 60000 pixels: Pillow's guard against decompression bombs must come out as one of our errors."""
    path = tmp_path / "bomb.bmp"
    Image.new("RGB", (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<ii", 60000, 60000)
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"bomb\.bmp' cannot be read"):
        load_photo(path)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((3, 20, 20), np.uint8), ValueError, r"channels last; got \(3, 20, 20\)"),
        (np.zeros((0, 20, 3), np.uint8), ValueError, r"got \(0, 20, 3\)"),
        (np.zeros(7, np.uint8), ValueError, r"got \(7,\)"),
        (np.zeros((2, 2, 3), np.int32), TypeError, "int32"),
        (np.zeros((2, 2, 3), bool), TypeError, "bool"),
        (np.full((2, 2, 3), 1.5), ValueError, r"\[1.5, 1.5\]"),
        (np.full((2, 2, 3), -0.1, np.float32), ValueError, r"in \[0, 1\]"),
        (np.full((2, 2, 3), np.nan), ValueError, "nan"),
        (Image.fromarray(np.array([[70000, 0]], np.int32)), ValueError, r"outside \[0, 65535\]"),
        (Image.fromarray(np.array([[7.0, 0]], np.float32)), ValueError, r"outside \[0, 1\]"),
        (Image.new("La", (2, 2)), ValueError, "mode La"),
    ],
)
def test_unfit_arrays_say_what_must_hold(array, error, message):
    with pytest.raises(error, match=message):
        Preprocessing()(array)


def test_what_is_no_photograph_is_refused():
    with pytest.raises(ValueError, match="list is empty"):
        Preprocessing()([])
    for thing in (3, None, b"photo.jpg"):
        with pytest.raises(TypeError):
            Preprocessing()([thing])  # pyright: ignore[reportArgumentType]
