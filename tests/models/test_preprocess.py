"""Photographs become images: the arithmetic against a slow twin in NumPy, and settings that do not fit. The files are in test_photos.py."""

import jax.numpy as jnp
import numpy as np
import pytest
from made_photos import coordinates, noise_photo
from PIL import Image

from dave_jax.models.preprocess import Preprocessing

LEVEL = 1.01 / 255  # Pillow rounds to 8 bits after each pass in fixed point, so the twin may differ by one grey level


def catmull_rom(x):
    x = np.abs(x)
    return np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0.0))


def triangle(x):
    return np.maximum(0.0, 1.0 - np.abs(x))


def resize_axis(pixels: np.ndarray, size: int, kernel, support: float) -> np.ndarray:
    """The first axis resampled: a kernel stretched by the reduction, its weights normalised to one, the result rounded to 8 bits."""
    scale = len(pixels) / size
    stretch = max(scale, 1.0)
    rows = []
    for i in range(size):
        centre = (i + 0.5) * scale
        first, last = max(0, int(centre - support * stretch + 0.5)), min(len(pixels), int(centre + support * stretch + 0.5))
        weights = kernel((np.arange(first, last) + 0.5 - centre) / stretch)
        rows.append(np.tensordot(weights / weights.sum(), pixels[first:last].astype(float), 1))
    return np.clip(np.floor(np.stack(rows) + 0.5), 0, 255)


def twin(preprocessing: Preprocessing, photo: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """The image by resampling to `size` (width, height), cutting out or padding pixel by pixel, and normalising."""
    kernel, support = {"bicubic": (catmull_rom, 2.0), "bilinear": (triangle, 1.0)}[preprocessing.interpolation]
    pixels = np.asarray(photo)
    pixels = resize_axis(pixels.swapaxes(0, 1), size[0], kernel, support).swapaxes(0, 1)
    pixels = resize_axis(pixels, size[1], kernel, support)
    height, width = preprocessing.image_size
    fill = np.round(255 * np.array(preprocessing.mean)) if preprocessing.crop_mode == "border" else np.zeros(3)
    excess = pixels.shape[0] - height, pixels.shape[1] - width
    top, left = (round(edge / 2) if edge >= 0 else -(-edge // 2) for edge in excess)
    image = np.empty((height, width, 3))
    for row, column in np.ndindex(height, width):
        inside = 0 <= row + top < pixels.shape[0] and 0 <= column + left < pixels.shape[1]
        image[row, column] = pixels[row + top, column + left] if inside else fill
    return (image / 255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)


CASES = [  # the size after resizing is worked out by hand: (width, height)
    (Preprocessing((24, 24)), (90, 61), (39, 27)),  # floor(24 / 0.875) = 27; int(27 * 90 / 61) = int(39.8) = 39
    (Preprocessing((24, 24), crop_fraction=0.9, interpolation="bilinear"), (61, 90), (26, 38)),  # int(26 * 90 / 61) = int(38.4)
    (Preprocessing((24, 24)), (10, 12), (27, 32)),  # enlarged: int(32.4)
    (Preprocessing((24, 24), crop_fraction=1.0, crop_mode="squash"), (90, 61), (24, 24)),
    (Preprocessing((20, 24), crop_fraction=0.9, crop_mode="squash"), (90, 61), (26, 22)),
    (Preprocessing((24, 24), crop_mode="border", mean=(0.48, 0.46, 0.41)), (90, 61), (27, 18)),  # round(61 * 27 / 90) = round(18.3)
    (Preprocessing((24, 24), crop_mode="border", crop_fraction=1.0), (61, 90), (16, 24)),  # round(16.27)
    (Preprocessing((20, 30)), (90, 61), (34, 23)),  # floor(20 / 0.875) = 22, floor(30 / 0.875) = 34; 90 / 34 = 2.647 < 61 / 22 = 2.773
    (Preprocessing((24, 24), crop_fraction=1.25), (61, 61), (19, 19)),  # smaller than the crop: a black border, the thinner one first
]


@pytest.mark.parametrize(("preprocessing", "photo_size", "resized"), CASES)
def test_equals_a_slow_twin(preprocessing, photo_size, resized):
    photo = noise_photo(*photo_size)
    assert preprocessing.resized(*photo_size) == resized
    image = preprocessing(photo)
    assert image.dtype == np.float32 and image.shape == (1, *preprocessing.image_size, 3)
    np.testing.assert_allclose(image[0], twin(preprocessing, photo, resized), rtol=0, atol=LEVEL / min(preprocessing.std))


@pytest.mark.parametrize(
    ("edge", "crop", "start"), [(27, 24, (2, 1)), (29, 24, (2, 2)), (30, 24, (3, 3)), (25, 24, (0, 0)), (24, 24, (0, 0))]
)
@pytest.mark.parametrize("rounding", ["even", "down"])
def test_the_corner_of_the_crop_rounds_ties(edge, crop, start, rounding):
    """To even: 1.5 and 2.5 both become 2, 0.5 becomes 0. A photograph of the resized size is cut without being resampled."""
    preprocessing = Preprocessing((crop, crop), crop_fraction=crop / (edge + 0.5), crop_start=rounding)
    start = start[rounding == "down"]
    photo = coordinates(edge, edge)
    pixels = np.round(255 * preprocessing.denormalise(preprocessing(photo)))[0]
    expected = np.asarray(photo.crop((start, start, start + crop, start + crop)))
    np.testing.assert_array_equal(pixels, expected)


def test_an_odd_border_is_thinner_at_the_top_left():
    image = Preprocessing((24, 24), crop_fraction=1.25)(Image.new("RGB", (19, 19), "white"))
    white = np.argwhere(image[0, :, :, 0] > 0)
    assert white.min(0).tolist() == [2, 2] and white.max(0).tolist() == [20, 20]


def test_a_sliver_keeps_at_least_one_pixel():
    image = Preprocessing((8, 8), crop_mode="border", crop_fraction=1.0)(Image.new("RGB", (1, 500), "white"))
    assert (image[0] == 1.0).all(axis=2).sum() == 8


def test_normalisation_and_its_inverse():
    preprocessing = Preprocessing((16, 16), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images = preprocessing([Image.new("RGB", (16, 16), (255, 0, 51)), Image.new("RGB", (50, 20), (0, 102, 255))])
    # float32 rounding of three operations on values of order one
    np.testing.assert_allclose(images[0, 3, 4], [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225], rtol=0, atol=1e-6)
    for array in (images, jnp.asarray(images)):
        pixels = preprocessing.denormalise(array)
        np.testing.assert_allclose(pixels[:, 0, 0], [[1, 0, 0.2], [0, 0.4, 1]], rtol=0, atol=1e-6)
    assert preprocessing.denormalise(images[0] + 100).max() == 1.0


def test_hashable_and_equal_by_value():
    assert hash(Preprocessing()) == hash(Preprocessing()) and Preprocessing() != Preprocessing(crop_fraction=0.9)


@pytest.mark.parametrize("number", [1, 3])
def test_every_way_to_pass_the_same_photographs(number, tmp_path):
    preprocessing = Preprocessing((12, 12))
    photos = [noise_photo(20 + i, 30 - i, seed=i) for i in range(number)]
    paths = [tmp_path / f"{i}.png" for i in range(number)]
    for path, photo in zip(paths, photos, strict=True):
        photo.save(path)
    expected = np.concatenate([preprocessing(photo) for photo in photos])
    arrays = [np.asarray(photo) for photo in photos]
    ways = [photos, paths, [str(path) for path in paths], arrays, [jnp.asarray(array) for array in arrays], sorted(tmp_path.glob("*.png"))]
    ways += [[(array / 255).astype(np.float32) for array in arrays], [array.astype(np.uint16) * 257 for array in arrays]]
    if number == 1:
        ways += [photos[0], paths[0], str(paths[0]), arrays[0], arrays[0][None], jnp.asarray(arrays[0])]
    for way in ways:
        np.testing.assert_array_equal(preprocessing(way), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": (0, 224)}, "two positive integers"),
        ({"std": (0.5, 0.5, 0.0)}, "three positive numbers"),
        ({"mean": (0.5, 0.5, float("nan"))}, "three numbers"),
        ({"crop_fraction": 0.0}, "crop_fraction must be positive; got 0.0"),
    ],
)
def test_unfit_settings_say_what_must_hold(settings, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**settings)


@pytest.mark.parametrize("settings", [{"crop_mode": "centre"}, {"interpolation": "cubic"}, {"crop_start": "up"}])
def test_unknown_choices_are_refused(settings):
    with pytest.raises((ValueError, TypeError)):  # the type checker of the tests may come first
        Preprocessing(**settings)


@pytest.mark.parametrize(
    "fields",
    [
        {"mean": (1e300, 0.5, 0.5)},
        {"std": (0.5, 1e-300, 0.5)},
        {"std": (float("nan"), 0.5, 0.5)},
        {"crop_fraction": 1e-9},
        {"image_size": (16, 2**15)},
    ],
    ids=str,
)
def test_settings_that_float32_or_the_memory_does_not_hold_are_refused(fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))} must be|pixels an edge"):
        Preprocessing(**fields)


def test_a_strip_is_no_photograph(tmp_path):
    """It would be resized to 256 x 25,600,000 pixels."""
    Image.new("1", (1, 100_000)).save(tmp_path / "strip.png")
    with pytest.raises(ValueError, match=r"strip\.png' is too narrow: 1 x 100000 pixels would be resized to 256 x 25600000"):
        Preprocessing()(tmp_path / "strip.png")
    assert Preprocessing(crop_mode="squash")(tmp_path / "strip.png").shape == (1, 224, 224, 3)
