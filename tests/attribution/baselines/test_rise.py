"""RISE: its masks, an explicit loop, and a model that looks at one pixel."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_model import small_model

from dave_jax.attribution.baselines.rise import Rise, random_mask
from dave_jax.attribution.inputs import image_id

KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def image():
    return jax.random.normal(jax.random.key(3), (16, 16, 3))


def enlarge(values, size):
    """Bilinear, along the first axis; pixel centres at halves, clamped at the ends."""
    place = np.clip((np.arange(size) + 0.5) * len(values) / size - 0.5, 0, len(values) - 1)
    low = np.minimum(place.astype(int), max(len(values) - 2, 0))
    part = (place - low).reshape(-1, *[1] * (values.ndim - 1))
    return (1 - part) * values[low] + part * values[np.minimum(low + 1, len(values) - 1)]


@pytest.mark.parametrize(("height", "width", "cells"), [(16, 16, 7), (8, 12, 4), (9, 5, 1)])
def test_a_mask_is_cut_out_of_an_enlarged_grid(height, width, cells):
    """At one of the places that there are, which the key chooses."""
    cell = math.ceil(height / cells), math.ceil(width / cells)
    make = jax.jit(lambda key: random_mask(key, height, width, cells, 0.5))
    starts = set()
    for seed in range(12):
        key = jax.random.key(seed)
        grid = np.asarray(jax.random.bernoulli(jax.random.split(key, 3)[0], 0.5, (cells, cells)), np.float32)
        large = enlarge(enlarge(grid, (cells + 1) * cell[0]).T, (cells + 1) * cell[1]).T
        mask = np.asarray(make(key))
        places = [
            (row, column)
            for row in range(cell[0])
            for column in range(cell[1])
            if np.abs(large[row : row + height, column : column + width] - mask).max() < 1e-6
        ]
        assert places
        starts |= {places[0]} if len(places) == 1 else set()
    assert cells == 1 or len(starts) > 2


def test_every_pixel_is_kept_with_the_same_probability():
    """Four standard errors of a mean of 2000 values in [0, 1]."""
    masks = jax.vmap(lambda key: random_mask(key, 9, 12, 3, 0.3))(jax.random.split(KEY, 2000))
    assert 0.0 <= float(masks.min()) and float(masks.max()) <= 1.0 + 1e-6
    assert float(jnp.abs(masks.mean(0) - 0.3).max()) < 4 * math.sqrt(0.3 * 0.7 / 2000)


@pytest.mark.parametrize(("score", "centred"), [("probability", False), ("logit", True)])
def test_equals_a_loop(score, centred, image):
    model, cotangents = small_model(), jax.random.normal(jax.random.key(5), (1, 2, 5))
    fill = np.array([0.5, -0.3, 0.1], np.float32)
    keys = [jax.random.fold_in(jax.random.fold_in(KEY, image_id(image)), i) for i in range(6)]
    masks = np.stack([np.asarray(random_mask(key, 16, 16, 4, 0.4)) for key in keys])
    logits = model.logits(masks[..., None] * np.asarray(image) + (1 - masks[..., None]) * fill)
    values = np.asarray(jax.nn.softmax(logits) if score == "probability" else logits)
    weights = values @ np.asarray(cotangents[0]).T  # (6, 2)
    weights = weights - weights.mean(0) if centred else weights
    expected = np.einsum("nk,nhw->khw", weights, masks) / (6 * 0.4)
    scale = np.abs(values).max() / 0.4  # what is subtracted if centred
    rise = Rise(num_masks=6, cells=4, keep=0.4, fill=fill, score=score, centred=centred)
    found = rise(model, image[None], cotangents, key=KEY, raw=True)
    np.testing.assert_allclose(found[0], expected, atol=2e-6 * scale)
    assert np.abs(expected).max() > 1e-3 * scale


def one_pixel(params, image, decomposition):
    return jnp.stack([image[5, 9].sum(), image[12, 2].sum()])


@pytest.mark.parametrize("centred", [False, True])
def test_finds_the_one_pixel_that_the_model_looks_at(centred):
    model = dataclasses.replace(small_model(), forward=one_pixel)
    rise = Rise(num_masks=600, cells=8, score="logit", centred=centred)
    maps = rise(model, jnp.ones((1, 16, 16, 3)), [[0, 1]], key=KEY)
    for found, pixel in zip(maps[0], ((5, 9), (12, 2)), strict=True):
        place = np.unravel_index(int(found.argmax()), found.shape)
        assert max(abs(place[0] - pixel[0]), abs(place[1] - pixel[1])) <= 1
    far = float(maps[0, 0, :, :4].mean())  # far from the pixel there is no more than noise, 1 / sqrt(600) of the peak
    assert far < 0.2 if centred else far < 0.35
