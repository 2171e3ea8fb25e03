"""Training on a toy problem, and each part of it."""

import io
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from convert_weights.table import flatten
from dave_jax.evaluation.folders import IMAGENETTE
from dave_jax.models.hub import load
from dave_jax.models.preprocess import Preprocessing
from dave_jax.testing import tiny_model
from dave_jax.training.imagenette import (
    MEAN,
    STD,
    Stage,
    make_evaluate,
    package,
    random_crop,
    read_images,
    resized,
    slower_below,
    train,
)

pytestmark = pytest.mark.slow


def colours(count, size=16):
    """uint8 images of one colour and some noise, and which of ten colours it is."""
    generator = np.random.default_rng(0)
    labels = (np.arange(count) % len(IMAGENETTE)).astype(np.int32)
    pixels = generator.integers(40, 216, (len(IMAGENETTE), 1, 1, 3))[labels] + generator.integers(-20, 21, (count, size, size, 3))
    return pixels.astype(np.uint8), labels


# Reading.


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def test_reads_an_archive(tmp_path):
    """Any order in the file, any mode of the JPEG; what is no image is passed over."""
    path, generator = tmp_path / "toy.tar", np.random.default_rng(0)
    written = {}
    with tarfile.open(path, "w") as archive:
        for wordnet, name, mode in (("n03888257", "b.JPEG", "RGB"), ("n01440764", "z.JPEG", "RGB"), ("n01440764", "a.jpg", "L")):
            buffer = io.BytesIO()
            photo = Image.fromarray(generator.integers(0, 256, (10, 12, 3), np.uint8)).convert(mode)
            photo.save(buffer, "JPEG")
            written[name] = np.asarray(Image.open(buffer).convert("RGB"))
            add(archive, f"imagenette/train/{wordnet}/{name}", buffer.getvalue())
        add(archive, "imagenette/train/README.txt", b"no image")
    images, labels = read_images(path)
    assert images.dtype == np.uint8 and labels.dtype == np.int32
    assert [list(IMAGENETTE.values())[label] for label in labels] == ["tench", "tench", "parachute"]
    np.testing.assert_array_equal(images, [written["a.jpg"], written["z.JPEG"], written["b.JPEG"]])


def test_resized_and_normalised():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    pixels = resized(images, (8, 8))
    np.testing.assert_allclose(pixels, (images / 255 - np.array(MEAN)) / np.array(STD), rtol=0, atol=1e-5)
    back = Preprocessing((8, 8), mean=MEAN, std=STD).denormalise(resized(images, (16, 12)))
    assert back.shape == (2, 16, 12, 3) and back.min() >= 0 and back.max() <= 1  # cubic interpolation overshoots, and is clipped


# Crops.


def crops(image, size, count=64):
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: random_crop(key, image, size)))(keys))


@pytest.mark.parametrize("size", [8, 40])
def test_crops_keep_the_range(size):
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3)), jnp.float32)
    cropped = crops(image, size)
    assert cropped.shape == (64, size, size, 3)
    assert cropped.min() >= -1e-3 and cropped.max() <= 255 + 1e-3
    assert cropped.std(axis=0).max() > 10
    np.testing.assert_allclose(crops(jnp.full((20, 20, 3), 7.0), size), 7.0, rtol=1e-5)


def test_crops_are_half_of_the_image_or_more():
    """On an image of coordinates a crop's slope is its side: 50 to 100 % of the area, aspect 3:4 to 4:3, half of them flipped."""
    rows, columns = np.mgrid[:32, :32].astype(np.float32)
    cropped = crops(jnp.asarray(np.stack([rows, columns, rows], -1)), 64, count=200)[:, 16:48, 16:48]
    height, width = 64 * (cropped[:, 31, 0, 0] - cropped[:, 0, 0, 0]) / 31, 64 * (cropped[:, 0, 31, 1] - cropped[:, 0, 0, 1]) / 31
    area, aspect = height * np.abs(width) / 32**2, height / np.abs(width)
    assert (height > 0).all() and 0.35 < (width > 0).mean() < 0.65
    assert 0.5 - 1e-3 < area.min() < 0.55 and 0.9 < area.max() < 1 + 1e-3
    assert 3 / 4 - 1e-3 < aspect.min() < 0.8 and 1.25 < aspect.max() < 4 / 3 + 1e-3


# Training.


def test_rates_fall_from_the_head_down():
    params = {
        "patch_embedding": {"kernel": jnp.ones((2, 2))},
        "position_embedding": jnp.ones((2, 2)),
        "blocks": {"mlp": {"kernel": jnp.ones((3, 2, 2)), "bias": jnp.ones((3, 2))}},
        "final_norm": {"scale": jnp.ones(2)},
        "head": {"kernel": jnp.ones((2, 2))},
    }
    optimiser = slower_below(3, decay=0.5)
    scaled, _ = optimiser.update(params, optimiser.init(params))
    for path, leaf in flatten(scaled).items():
        if path.startswith("blocks/"):
            np.testing.assert_array_equal(leaf, np.broadcast_to(np.reshape([0.25, 0.5, 1.0], (3,) + (1,) * (leaf.ndim - 1)), leaf.shape))
        else:
            np.testing.assert_array_equal(leaf, np.full(leaf.shape, 1.0 if path.startswith(("head", "final_norm")) else 0.125))


def test_accuracy_counts_every_image():
    """In batches of which the last is smaller."""
    model = tiny_model(num_classes=10)
    images, _ = colours(20)
    predicted = np.argmax(jax.jit(jax.vmap(model.forward, (None, 0)))(model.params, resized(images, (16, 16))), axis=-1)
    labels = np.where(np.arange(20) < 15, predicted, (predicted + 1) % 10).astype(np.int32)
    assert make_evaluate(model.forward, batch_size=8)(model.params, images, labels) == 0.75


def test_training_lowers_the_loss():
    """Ten colours, from a random network; the second stage goes on at another image size."""
    data, entries, kept = colours(80), [], []
    model = tiny_model(num_classes=10, pooling="avg", final_norm="pooled")
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in integers
        params = train(
            model.params,
            model.forward.config,
            data,
            colours(20),
            [Stage(16, 8, 2e-2), Stage(24, 1, 1e-4)],
            batch_size=16,
            log=entries.append,
            keep=kept.append,
        )
    assert [(entry["image_size"], entry["epoch"]) for entry in entries] == [*((16, epoch) for epoch in range(8)), (24, 0)]
    losses = [entry["loss"] for entry in entries]
    assert losses[0] > 1.7 and losses[7] < 0.5 * losses[0]  # ln 10 = 2.3 knows nothing, and smoothed labels leave 0.5
    assert entries[7]["accuracy"] > 0.8 and entries[8]["accuracy"] > 0.8
    assert params["position_embedding"].shape == (1 + 36, 16)
    assert len(kept) == 9 and kept[-1] is params


def test_packaged_model(tmp_path):
    """With names, and calibrated settings, which are those of its 8-bit kernels."""
    model = tiny_model(num_classes=10)
    images, _ = colours(8, size=20)
    packaged = package(model.params, model.forward.config, images, tmp_path)
    assert packaged.class_names == tuple(IMAGENETTE.values())
    assert packaged.preprocessing == Preprocessing((16, 16), mean=MEAN, std=STD, crop_fraction=1.0)
    loaded = load(tmp_path)
    assert loaded.config == packaged.config and 0 < loaded.config.noise_alpha < 1
    logits, expected = (one.logits(packaged.preprocess(images)) for one in (loaded, model))
    assert 0 < float(jnp.abs(logits - expected).max()) < 0.05 * float(jnp.abs(expected).max())
