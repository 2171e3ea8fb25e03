"""Draw the pictures of the page on how DAVE works: from the input gradient to a heat map, and the patch grid that averaging cancels.

    python docs/make_steps.py

Run it again when the model, the pictures or the drawing change.
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import dave_jax as dave
from dave_jax import plot
from dave_jax.attribution.inputs import image_id
from dave_jax.sampling.samplers import independent

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ROOT / "dave_jax" / "assets" / "photos"
STILL = {"flip_probability": 0.0, "rotation": 0.0, "shift": 0.0, "scale_min": 1.0, "scale_max": 1.0}
PATCH = 14


def average(model: dave.Model, image: jax.Array, target: int, config: dave.DaveConfig) -> np.ndarray:
    """What `explain` averages before the product with the image: effective transformations of neighbours, pulled back."""
    key, like = jax.random.fold_in(jax.random.key(0), image_id(image)), jax.ShapeDtypeStruct(image.shape, image.dtype)
    samples = []
    for number in range(config.num_samples):
        matrix, noise, t = (neighbour := independent(key, jnp.asarray(number), config, like)).transform.matrix, *neighbour[1:]
        samples.append(dave.effective_transformation(model, image, target, matrix=matrix, noise=noise, t=t))
    return np.asarray(dave.mad_mean(jnp.stack(samples)))


def steps(model: dave.Model, image: jax.Array, target: int, num_samples: int) -> dict[str, np.ndarray]:
    """Four derivatives of one logit, each with one more idea."""
    config = model.config.with_samples(num_samples)
    return {
        "input gradient": np.asarray(dave.effective_transformation(model, image, target, decomposition="gradient")),
        "effective transformation": np.asarray(dave.effective_transformation(model, image, target)),
        "+ transforms": average(model, image, target, dataclasses.replace(config, noise_alpha=0.0)),
        "+ noise": average(model, image, target, config),
    }


def in_colour(derivative: np.ndarray) -> np.ndarray:
    """Red, green and blue of a derivative, grey where it is zero."""
    return np.clip(0.5 + 0.5 * derivative / np.percentile(np.abs(derivative), 99.5), 0.0, 1.0)


def draw(figure: Figure) -> Image.Image:
    """A figure with few colours: noise takes much room otherwise."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()).quantize(128, dither=Image.Dither.NONE)


def draw_steps(model: dave.Model, image: jax.Array, found: dict[str, np.ndarray], heat: jax.Array) -> Image.Image:
    """The photograph, the derivatives, and the heat map over it."""
    pixels = model.preprocessing.denormalise(image)
    pictures = {"photograph": np.asarray(pixels), **{name: in_colour(array) for name, array in found.items()}}
    pictures["times the image, filtered"] = np.asarray(plot.overlay(pixels, heat)) / 255.0
    figure = Figure(figsize=(10.4, 7.5), dpi=100)
    for i, (name, picture) in enumerate(pictures.items()):
        axes = figure.add_axes(((8 + (i % 3) * 344) / 1040, (382 - (i // 3) * 374) / 750, 336 / 1040, 336 / 750))
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(f"{i}. {name}" if i else name, fontsize=15, loc="left")
        axes.set_axis_off()
    return draw(figure)


def by_place(derivative: np.ndarray) -> np.ndarray:
    """The magnitude of a derivative by the place in a patch, relative to its patch, the median over the patches."""
    magnitude = np.abs(derivative).sum(axis=-1)
    rows, columns = (size // PATCH for size in magnitude.shape)
    patches = magnitude.reshape(rows, PATCH, columns, PATCH).swapaxes(1, 2).reshape(-1, PATCH, PATCH)
    patches = patches[patches.any(axis=(1, 2))]  # few samples may all have moved a corner out of the picture
    median = np.median(patches / patches.mean(axis=(1, 2), keepdims=True), axis=0)
    return median / median.mean()


def spectrum(derivative: np.ndarray) -> np.ndarray:
    """The power of the magnitude at 0, 1, 2, ... cycles over the width of the image, averaged over the rows, relative to its sum."""
    magnitude = np.abs(derivative).sum(axis=-1)
    magnitude = magnitude[magnitude.any(axis=1)]
    power = (np.abs(np.fft.rfft(magnitude / magnitude.mean(axis=1, keepdims=True), axis=1)) ** 2).mean(axis=0)
    return power[1:] / power[1:].sum()


def draw_grid(found: list[dict[str, np.ndarray]]) -> Image.Image:
    """Of one picture a part, enlarged; of all of them the magnitude by the place in a patch, and its spectrum."""
    names = {"input gradient": "1. input gradient", "effective transformation": "2. effective transformation", "+ noise": "4. averaged"}
    figure = Figure(figsize=(10.4, 9.4), dpi=100, layout="constrained")
    axes = figure.subplots(3, 3, height_ratios=(3.2, 2.4, 2.0), sharey="row")
    for column, (name, title) in zip(axes.T, names.items(), strict=True):
        part = np.s_[7 * PATCH : 12 * PATCH, : 5 * PATCH]
        column[0].imshow(in_colour(found[0][name])[part], interpolation="nearest")
        column[0].set_title(title, fontsize=15, loc="left")
        places = column[1].imshow(np.mean([by_place(one[name]) for one in found], axis=0), vmin=0.6, vmax=1.4, cmap="PuOr_r")
        for picture in column[:2]:
            picture.set_xticks(np.arange(0, part[1].stop + 1, PATCH) - 0.5 if picture is column[0] else [], labels=[])
            picture.set_yticks(np.arange(0, 5 * PATCH + 1, PATCH) - 0.5 if picture is column[0] else [], labels=[])
        power = np.mean([spectrum(one[name]) for one in found], axis=0)
        column[2].semilogy(np.arange(1, len(power) + 1), power, color="#333399", linewidth=1.2)
        column[2].set_xticks([12 * i for i in range(8)])
        column[2].grid(axis="x", color="0.85")
        column[2].spines[["top", "right"]].set_visible(False)
        column[2].set_xlabel("cycles across the image")
    axes[0, 0].set_ylabel("5 x 5 patches", fontsize=12)
    axes[1, 0].set_ylabel("by place in a patch", fontsize=12)
    axes[2, 0].set_ylabel("power of the magnitude", fontsize=12)
    figure.colorbar(places, ax=axes[1, :], shrink=0.9, pad=0.01, label="magnitude, mean 1")
    return draw(figure)


def main(arguments: list[str] | None = None) -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description="Draw the pictures of the page on how DAVE works.")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs", help="folder to write to (default: docs)")
    parser.add_argument("--samples", type=int, default=50, help="neighbours to average (default: %(default)s)")
    options = parser.parse_args(arguments)
    model = dave.load()
    wanted = (("ball_and_parachute", "golf ball"), ("golf_ball", "golf ball"), ("parachute", "parachute"))
    images = model.preprocess([PHOTOS / f"{name}.jpg" for name, _ in wanted])
    targets = [model.class_index(name) for _, name in wanted]
    found = [steps(model, image, target, options.samples) for image, target in zip(images, targets, strict=True)]
    config = model.config.with_samples(options.samples)
    heat = dave.explain(model, images[:1], targets[:1], key=jax.random.key(0), config=config)[0]
    draw_steps(model, images[0], found[0], heat).save(options.output / "how-it-works-steps.png", optimize=True)
    draw_grid(found).save(options.output / "how-it-works-grid.png", optimize=True)


if __name__ == "__main__":
    main()
