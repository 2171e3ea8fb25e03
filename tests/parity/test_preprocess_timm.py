"""`Preprocessing` against timm's evaluation transform, over crops, filters, sizes of the image and sizes of the photograph."""

import itertools

import numpy as np
import pytest
from PIL import Image

from dave_jax.models.preprocess import Preprocessing

pytestmark = pytest.mark.parity

PHOTO_SIZES = [(320, 213), (213, 320), (250, 187), (333, 333), (64, 64), (112, 112), (128, 127), (127, 511), (37, 300), (1, 1), (7, 2)]
STATISTICS = [((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.0,) * 3, (1.0,) * 3)]
IMAGE_SIZES = [(112, 112), (49, 49), (189, 189), (112, 80), (48, 105)]
CROP_FRACTIONS = [0.875, 0.9, 0.95, 1.0]


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8)) for width, height in PHOTO_SIZES]


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"])
def test_equals_timm(photos, crop_mode, interpolation):
    data = pytest.importorskip("timm.data")
    image_sizes = IMAGE_SIZES if interpolation in ("bicubic", "bilinear") else IMAGE_SIZES[::4]  # the filters that no model of timm uses
    for i, (image_size, crop_fraction) in enumerate(itertools.product(image_sizes, CROP_FRACTIONS)):
        mean, std = STATISTICS[i % len(STATISTICS)]
        ours = Preprocessing(image_size, mean, std, crop_fraction, crop_mode, interpolation)
        theirs = data.create_transform(
            (3, *image_size),
            is_training=False,
            interpolation=interpolation,
            mean=mean,
            std=std,
            crop_pct=crop_fraction,
            crop_mode=crop_mode,
        )
        for j, photo in enumerate(photos):
            if i % 4 and j % 4 != i % 4:  # every photograph at one fraction in four, and a quarter of them at the others
                continue
            try:
                expected = theirs(photo).permute(1, 2, 0).numpy()
            except ValueError:  # timm rounds the short edge of a sliver to no pixels
                assert min(photo.size) <= 2 and crop_mode == "border"
                continue
            np.testing.assert_allclose(ours(photo)[0], expected, rtol=0, atol=1e-5, err_msg=f"{ours} {photo.size}")


def test_equals_timm_on_every_mode_of_file(tmp_path):
    data = pytest.importorskip("timm.data")
    theirs = data.create_transform((3, 64, 64), is_training=False, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=0.9)
    ours = Preprocessing((64, 64), crop_fraction=0.9)
    pixels = np.random.default_rng(1).integers(0, 256, (90, 130, 4), np.uint8)
    for mode, suffix in [("L", "jpg"), ("RGB", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("LA", "png"), ("RGBA", "webp")]:
        path = tmp_path / f"{mode}.{suffix}"
        Image.fromarray(pixels if "A" in mode else pixels[..., :3]).convert(mode).save(path)
        expected = theirs(Image.open(path).convert("RGB")).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(ours(path)[0], expected, rtol=0, atol=1e-5, err_msg=mode)


def test_equals_timm_on_photographs(shared):
    data = pytest.importorskip("timm.data")
    theirs = data.create_transform((3, 224, 224), is_training=False, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=0.9)
    ours = Preprocessing(crop_fraction=0.9)
    paths = sorted((shared / "images").glob("*.jpg"))[::9]
    assert paths
    for path in paths:
        photo = Image.open(path)
        assert photo.getexif().get(0x0112, 1) == 1  # timm's reader ignores the orientation
        expected = theirs(photo.convert("RGB")).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(ours(path)[0], expected, rtol=0, atol=1e-5, err_msg=path.name)
