"""Maps as pictures of their own: laid over the faded photograph they are `dave_jax.plot.overlay`."""

import io

import numpy as np
from PIL import Image

from dave_jax import plot
from dave_jax.pages.pictures import heat_png, photo_jpeg

DRAW = np.random.default_rng(0)


def test_a_layer_over_the_faded_photograph_is_the_overlay():
    pixels, heat = DRAW.random((30, 40, 3)), DRAW.random((30, 40)) ** 3
    layer = Image.open(io.BytesIO(heat_png(heat))).convert("RGBA")
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    faded = 0.7 * (0.7 * pixels + 0.3 * grey[..., None])  # what the style sheet's filter does
    below = Image.fromarray(np.round(255 * faded).astype(np.uint8)).convert("RGBA")
    made = np.asarray(Image.alpha_composite(below, layer).convert("RGB")).astype(int)
    apart = np.abs(made - np.asarray(plot.overlay(pixels, heat)).astype(int))
    assert apart.max() <= 5 and apart.mean() < 0.5  # 256 levels of heat; blue changes fastest with them


def test_no_heat_is_transparent_and_half_precision_is_taken():
    layer = Image.open(io.BytesIO(heat_png(np.array([[0.0, 0.25, 1.0, 1.002]], np.float16)))).convert("RGBA")
    assert [layer.getpixel((i, 0))[3] for i in range(4)] == [0, 128, 255, 255]


def test_a_photograph_keeps_its_colours():
    pixels = np.full((16, 16, 3), [0.2, 0.5, 0.8])
    np.testing.assert_allclose(np.asarray(Image.open(io.BytesIO(photo_jpeg(pixels)))) / 255, pixels, atol=0.02)
