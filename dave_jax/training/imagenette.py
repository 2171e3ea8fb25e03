"""Train the embedded default model on Imagenette: a small vision transformer, started from a pretrained one (see `shrink`).

    python -m dave_jax.training.imagenette --data DIR --teacher CHECKPOINT -o OUT

`DIR` holds `imagenette144-train.tar` and `imagenette144-val.tar` (folders named by WordNet id, JPEG). Training is AdamW on cross-entropy
with random crops and flips, the early blocks at a lower rate than the late ones. It runs at a small image size, which is quick.
The log is one JSON line an epoch.
"""

import argparse
import dataclasses
import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from convert_weights.table import flatten
from dave_jax.config import DaveConfig
from dave_jax.evaluation.folders import IMAGENETTE
from dave_jax.models.hub import load
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.store import save
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig
from dave_jax.sampling.calibrate import calibrate
from dave_jax.training import shrink

IMAGE_SIZE = 168
"""Height and width of the shipped model. Training crops and enlarges; a model sees best at a size above that of its training
(arXiv 1906.06423)."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Stage:
    """Training at one image size."""

    image_size: int
    epochs: int
    learning_rate: float


def read_images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All images of an Imagenette archive (n, h, w, 3) uint8, and their labels (n,), in the archive's order of names."""
    order = {name: label for label, name in enumerate(IMAGENETTE)}
    images, labels = [], []
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if member.isfile() and member.name.lower().endswith((".jpg", ".jpeg")):
                content = archive.extractfile(member)
                assert content is not None  # isfile() above
                images.append(np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB")))
                labels.append(order[Path(member.name).parent.name])
    return np.stack(images), np.array(labels, np.int32)


def normalise(images: jax.Array) -> jax.Array:
    """Images (b, h, w, 3) from [0, 255] to the model's normalised pixels."""
    return (images / 255.0 - jnp.array([[[MEAN]]])) / jnp.array([[[STD]]])


def random_crop(key: jax.Array, image: jax.Array, size: int) -> jax.Array:
    """A crop of 50 to 100 % of the area and aspect 3:4 to 4:3, resized to `size`, flipped half the time."""
    area_key, aspect_key, place_key, flip_key = jax.random.split(key, 4)
    side = image.shape[0] * jnp.sqrt(jax.random.uniform(area_key, (), minval=0.5, maxval=1.0))
    aspect = jnp.exp(0.5 * jax.random.uniform(aspect_key, (), minval=jnp.log(3 / 4), maxval=jnp.log(4 / 3)))
    sides = jnp.minimum(jnp.stack([side / aspect, side * aspect]), image.shape[0])
    corner = jax.random.uniform(place_key, (2,)) * (image.shape[0] - sides)
    scale = size / sides
    crop = jax.image.scale_and_translate(image, (size, size, 3), (0, 1), scale, -corner * scale, "linear")
    return jnp.asarray(dm_pix.random_flip_left_right(flip_key, crop))


def resized(images: jax.Array | np.ndarray, size: tuple[int, int]) -> jax.Array:
    """uint8 images (b, h, w, 3) resized and normalised."""
    pixels = jax.image.resize(jnp.asarray(images, jnp.float32), (len(images), *size, 3), "cubic", antialias=True)
    return normalise(jnp.clip(pixels, 0.0, 255.0))


def slower_below(depth: int, decay: float = 0.75) -> optax.GradientTransformation:
    """Multiply the updates of a block by `decay` for every block above it, and of the embedding once more."""
    rates = decay ** jnp.arange(depth - 1, -1, -1, dtype=jnp.float32)

    def scale(path: Any, update: jax.Array) -> jax.Array:
        if path[0].key == "blocks":
            return update * rates.reshape(-1, *(1,) * (update.ndim - 1))
        return update if path[0].key in ("head", "final_norm") else update * decay**depth

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))


def make_evaluate(vit: ViT, batch_size: int = 64):
    """A function of parameters, images (uint8) and labels that returns the accuracy."""
    size = vit.config.image_size

    @jax.jit
    def correct(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = jax.vmap(vit, (None, 0))(params, resized(images, size))
        return jnp.sum(jnp.argmax(logits, axis=-1) == labels)

    def evaluate(params: Params, images: np.ndarray, labels: np.ndarray) -> float:
        starts = range(0, len(images), batch_size)
        return sum(int(correct(params, images[i : i + batch_size], labels[i : i + batch_size])) for i in starts) / len(images)

    return evaluate


def train(
    params: Params,
    config: ViTConfig,
    data: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    stages: list[Stage],
    *,
    seed: int = 0,
    batch_size: int = 64,
    weight_decay: float = 0.05,
    log: Callable[[dict[str, Any]], None] = print,
    keep: Callable[[Params], None] = lambda params: None,
) -> Params:
    """Train through the stages; returns the parameters at the last stage's image size.

    Args:
        params: the start.
        config: its configuration.
        data: training images uint8 (n, h, w, 3) and labels.
        validation: the same, to measure after every epoch.
        stages: in order; each has its own one-cycle learning rate.
        seed: of the order and the crops.
        batch_size: images a step.
        weight_decay: AdamW's, on matrices only.
        log: takes a dict an epoch.
        keep: takes the parameters after every epoch, to save them.
    """
    images, labels = data
    generator, key = np.random.default_rng(seed), jax.random.key(seed)
    for stage in stages:
        params, config = shrink.at_image_size(params, config, stage.image_size)
        vit = ViT(config)
        steps = stage.epochs * (len(images) // batch_size)
        rate = optax.warmup_cosine_decay_schedule(0.0, stage.learning_rate, steps // 10, steps, stage.learning_rate / 100)
        matrices = jax.tree_util.tree_map_with_path(lambda path, leaf: path[-1].key == "kernel", params)
        optimiser = optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(rate, weight_decay=weight_decay, mask=matrices),
            slower_below(config.depth),
        )
        state = optimiser.init(params)

        @jax.jit
        def step(params, state, key, batch, targets, vit=vit, optimiser=optimiser):
            def loss(params):
                keys = jax.random.split(key, len(batch))
                crops = jax.vmap(random_crop, (0, 0, None))(keys, batch.astype(jnp.float32), vit.config.image_size[0])
                logits = jax.vmap(vit, (None, 0))(params, normalise(crops))
                smooth = optax.smooth_labels(jax.nn.one_hot(targets, len(IMAGENETTE)), 0.1)
                return jnp.mean(optax.softmax_cross_entropy(logits, smooth))

            value, grads = jax.value_and_grad(loss)(params)
            updates, state = optimiser.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

        evaluate = make_evaluate(vit)
        for epoch in range(stage.epochs):
            start, losses = time.perf_counter(), []
            order = generator.permutation(len(images))
            for i in range(len(images) // batch_size):
                chosen = order[i * batch_size : (i + 1) * batch_size]
                key, step_key = jax.random.split(key)
                params, state, value = step(params, state, step_key, images[chosen], labels[chosen])
                losses.append(float(value))
                if i % 20 == 0:
                    print(f"{stage.image_size}px epoch {epoch} step {i} loss {np.mean(losses[-20:]):.3f}", flush=True)
            accuracy = evaluate(params, *validation)
            log(
                {
                    "image_size": stage.image_size,
                    "epoch": epoch,
                    "loss": float(np.mean(losses)),
                    "accuracy": accuracy,
                    "seconds": time.perf_counter() - start,
                }
            )
            keep(params)
    return params


def package(params: Params, config: ViTConfig, photographs: np.ndarray, output: Path) -> Model:
    """Write the model that `dave_jax.load(output)` reads: 8-bit kernels, class names, and settings calibrated on some photographs.

    Args:
        params: trained.
        config: their configuration.
        photographs: uint8 images (n, h, w, 3) to calibrate on, of the training data.
        output: the folder.

    Returns:
        What was written, as it is read back.
    """
    preprocessing = Preprocessing(config.image_size, mean=MEAN, std=STD, crop_fraction=1.0)
    names, source = tuple(IMAGENETTE.values()), "dave_jax.training.imagenette"
    model = Model(params, ViT(config), DaveConfig(), preprocessing, names, "imagenette_vit", source)
    save(model, output, quantise=True)
    model = load(output)  # calibrated as it will be used, with its kernels rounded
    settings = calibrate(model, model.preprocess(photographs), key=jax.random.key(0)).config
    save(dataclasses.replace(model, config=settings, source=source), output, quantise=True)
    return load(output)


def main() -> None:
    """Train the default model as it is shipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the two archives")
    parser.add_argument("--teacher", required=True, help="checkpoint of a plain ViT to start from: what dave_jax.load takes")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the model and training.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    def log(entry: dict[str, Any]) -> None:
        with (arguments.output / "training.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print(entry, flush=True)

    data, validation = (read_images(arguments.data / f"imagenette144-{split}.tar") for split in ("train", "val"))
    stages = [Stage(112, 3, 1e-4)]
    teacher = load(arguments.teacher)
    assert isinstance(teacher.forward, ViT)  # so far `load` gives nothing else
    params, config = shrink.keep_first_blocks(teacher.params, teacher.forward.config, depth=6, num_classes=len(IMAGENETTE))
    params, config = shrink.at_image_size(params, config, stages[0].image_size)
    chosen = np.random.default_rng(arguments.seed).permutation(len(data[0]))[:2000]
    images, labels = resized(data[0][chosen], config.image_size), data[1][chosen]
    params, config = shrink.narrow_mlps(params, config, images[:200], mlp_width=832)
    params = shrink.fit_head(params, config, images, labels)
    log({"image_size": config.image_size[0], "start": True, "accuracy": make_evaluate(ViT(config))(params, *validation)})

    def keep(params: Params) -> None:
        arrays: dict[str, Any] = {path: np.asarray(leaf) for path, leaf in flatten(params).items()}
        np.savez(arguments.output / "params.npz", **arrays)

    params = train(params, config, data, validation, stages, seed=arguments.seed, log=log, keep=keep)
    params, config = shrink.at_image_size(params, config, IMAGE_SIZE)
    log({"image_size": IMAGE_SIZE, "accuracy": make_evaluate(ViT(config))(params, *validation)})
    package(params, config, data[0][chosen[:32]], arguments.output)


if __name__ == "__main__":
    main()
