"""DAVE on a convolutional network: does averaging help, and what becomes of the patch grid?

    python benchmarks/convolutional.py --imagenette imagenette144-val.tar --output benchmarks/results

The network is EfficientNet-Lite0 with its ImageNet weights (`efficientnet_lite.py`), traced by `dave.Model.from_function`. First its answer
is checked: its accuracy on Imagenette, completeness, and that the effective transformation of a network of ReLUs and batch norms is its
gradient. Then, for one map and for averages of a few samples, without noise and with what `dave.calibrate` finds,

    GridPG     the share of a class's map on its own photograph, in mosaics of 2 x 2 (chance 0.25)
    grid       how much the magnitude of maps depends on the place in a cell of the network's grid, in percent of the mean

The grid of a convolutional network has the strides of its feature maps, 2, 4, ..., 32 pixels; each counts what the smaller ones do not
explain. Beside every contrast stands what maps that are shifted at random have. The embedded vision transformer goes through the same for
comparison; its stride is that of its patches.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import efficientnet_lite
import jax
import jax.numpy as jnp
import numpy as np
from context import context, report
from PIL import Image

import dave_jax as dave
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.dave import Dave
from dave_jax.attribution.method import Method
from dave_jax.evaluation import choice
from dave_jax.evaluation.data import Photograph, read
from dave_jax.evaluation.grid import grid_pointing_game, mosaic
from dave_jax.evaluation.statistics import bootstrap, bootstrap_difference
from dave_jax.plot import overlay, tiles

STRIDES = (2, 4, 8, 16, 32)
"""Of the network's feature maps."""

CELL = 112
CALIBRATED_ON = 16
PHOTOS = Path(__file__).resolve().parents[1] / "dave_jax" / "assets" / "photos"


class Disagreement(Exception):
    """The network does not do what it should, so that there is nothing to measure."""


def fold(maps: np.ndarray, stride: int) -> np.ndarray:
    """The mean magnitude at every place of a cell of the grid, over all whole cells: (n, h, w) to (stride, stride)."""
    height, width = (edge // stride for edge in maps.shape[1:])
    cut = np.abs(maps[:, : height * stride, : width * stride]).mean(axis=0)
    return cut.reshape(height, stride, width, stride).mean(axis=(0, 2))


def grid_contrast(maps: np.ndarray, stride: int) -> float:
    """How much a map's magnitude depends on the place in a cell of `stride` pixels: standard deviation over mean.

    What repeats with half the stride is no part of it.
    """
    cell = fold(maps, stride)
    half = np.tile(cell.reshape(2, stride // 2, 2, stride // 2).mean(axis=(0, 2)), (2, 2)) if stride % 2 == 0 else cell.mean()
    return float(np.sqrt(np.mean((cell - half) ** 2)) / cell.mean())


def chance(maps: np.ndarray, stride: int, seed: int, draws: int = 8) -> float:
    """The same when no map is aligned with the grid: each is rolled by a distance of its own."""
    generator, found = np.random.default_rng(seed), []
    for _ in range(draws):
        rolls = generator.integers(0, maps.shape[1:], (len(maps), 2))
        found.append(grid_contrast(np.stack([np.roll(each, roll, (0, 1)) for each, roll in zip(maps, rolls, strict=True)]), stride))
    return float(np.mean(found))


def methods(samples: list[int], noise: float) -> dict[str, Method]:
    """One map, and averages over the transforms, without noise and with it."""
    found: dict[str, Method] = {"one map": InputTimesGradient(decomposition="effective")}
    for alpha, label in ((0.0, ""), (noise, f", noise {noise:.2g}")):
        for count in samples:
            found[f"DAVE {count}{label}"] = Dave(dave.DaveConfig(num_samples=count, noise_alpha=alpha))
    return found


def check(model: dave.Model, photographs: list[Photograph], count: int, least: float, seed: int) -> dict[str, float]:
    """Accuracy among all classes and among Imagenette's, completeness, and how far the effective transformation is from the gradient."""
    some = choice.in_turn(photographs, seed)[:count]
    parts = (some[at : at + 32] for at in range(0, len(some), 32))
    logits = np.concatenate([np.asarray(model.logits(model.preprocess([photograph.photo() for photograph in part]))) for part in parts])
    targets, ten = np.array([photograph.target for photograph in some]), np.array(efficientnet_lite.IMAGENET_NUMBERS)
    accuracy, among_ten = (float((found == targets).mean()) for found in (logits.argmax(axis=1), ten[logits[:, ten].argmax(axis=1)]))
    images, target = model.preprocess([some[0].photo()]), [some[0].target]
    residual = float(dave.completeness(model, images[0], some[0].target))
    maps = [InputTimesGradient(decomposition=name)(model, images, target, raw=True) for name in ("gradient", "effective")]
    difference = float(jnp.abs(maps[0] - maps[1]).max() / jnp.abs(maps[0]).max())
    if among_ten < least or residual > 1e-4 or difference > 1e-4:
        raise Disagreement(
            f"accuracy {among_ten:.3f} of {len(some)} photographs (least {least}), residual of completeness {residual:.1e}, "
            f"effective transformation {difference:.1e} from the gradient."
        )
    found = {"photographs": len(some), "accuracy": accuracy, "accuracy_among_ten": among_ten}
    return found | {"residual": residual, "effective_from_gradient": difference}


def measure(
    small: dave.Model, large: dave.Model, photographs: list[Photograph], strides: tuple[int, ...], options: argparse.Namespace
) -> dict[str, Any]:
    """Scores of every method on mosaics of photographs that the model knows at the size of a cell."""
    chosen = choice.choose(photographs, small, seed=options.seed, count=0, num_mosaics=options.mosaics, min_confidence=options.confidence)
    pictures = jnp.stack([mosaic(small.preprocess([photograph.photo() for photograph in group])) for group in chosen.mosaics])
    targets = jnp.asarray([[photograph.target for photograph in group] for group in chosen.mosaics])
    cells, one = jnp.broadcast_to(jnp.arange(4), targets.shape), None
    noise = options.noise
    if noise is None:
        known = list({photograph.name: photograph for group in chosen.mosaics for photograph in group}.values())[:CALIBRATED_ON]
        images, classes = large.preprocess([photograph.photo() for photograph in known]), [photograph.target for photograph in known]
        noise = dave.calibrate(large, images, jnp.asarray(classes), key=jax.random.key(options.seed)).noise_alpha
    result: dict[str, Any] = {"model": large.name, "mosaics": len(pictures), "photographs_seen": chosen.seen, "noise": noise, "methods": {}}
    for name, method in methods(options.samples, noise).items():
        start = time.perf_counter()
        maps = method(large, pictures, targets, key=jax.random.key(options.seed), raw=True)
        scores = np.asarray(grid_pointing_game(maps, cells))
        seconds = (time.perf_counter() - start) / len(pictures)
        one = scores if one is None else one
        flat = np.asarray(maps, float).reshape(-1, *maps.shape[-2:])
        result["methods"][name] = {
            "gridpg": scores.tolist(),
            "mean": dataclasses.asdict(bootstrap(scores, options.seed)),
            "over_one_map": dataclasses.asdict(bootstrap_difference(scores, one, options.seed)),
            "grid": {str(stride): grid_contrast(flat, stride) for stride in strides},
            "grid_by_chance": {str(stride): chance(flat, stride, options.seed) for stride in strides},
            "seconds_per_mosaic": seconds,
        }
        print(f"{large.name}, {name}: {seconds:.1f} s a mosaic", file=sys.stderr, flush=True)
    return result


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    rows = result["methods"]
    width, strides = max(len(name) for name in rows), list(next(iter(rows.values()))["grid"])
    lines = [
        f"{result['model']}: {result['mosaics']} mosaics of {2 * CELL} x {2 * CELL} pixels, four targets each",
        "",
        f"{'':{width}}  {'GridPG':25}{'over one map':27}" + "".join(f"{f'grid {stride}':>13}" for stride in strides),
    ]
    for name, row in rows.items():
        parts = (f"{each['mean']:6.3f} ({each['low']:6.3f} to {each['high']:6.3f})" for each in (row["mean"], row["over_one_map"]))
        grid = (f"{100 * row['grid'][stride]:6.1f} ({100 * row['grid_by_chance'][stride]:4.1f})" for stride in strides)
        lines.append(f"{name:{width}}  " + "  ".join(parts) + "".join(grid))
    return "\n".join(lines)


def draw(model: dave.Model, path: Path, noise: float, options: argparse.Namespace) -> None:
    """The example pictures with the overlays of one map and of averages."""
    rows = []
    for file, label in (("parachute.jpg", "parachute"), ("golf_ball.jpg", "golf ball")):
        images = model.preprocess(PHOTOS / file)
        pixels = np.clip(np.asarray(images[0]) * model.preprocessing.std + model.preprocessing.mean, 0, 1)
        row = [(Image.fromarray(np.uint8(np.rint(255 * pixels))), label)]
        for name, method in methods([max(options.samples)], noise).items():
            heat = np.asarray(method(model, images, [model.class_index(label)], key=jax.random.key(options.seed)))[0]
            row.append((overlay(pixels, heat), name))
        rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    tiles(rows).quantize(128).save(path, optimize=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    def counts(text: str) -> list[int]:
        return sorted({int(part) for part in text.split(",")})

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--imagenette", type=Path, required=True, help="archive or folder of Imagenette, folders named by WordNet id")
    parser.add_argument("--weights", type=Path, help=f"the file of the package {efficientnet_lite.PACKAGE} (default: the installed one's)")
    parser.add_argument("--photos", type=int, default=500, help="photographs to check the accuracy on")
    parser.add_argument("--accuracy", type=float, default=0.9, help="the least that there must be, among Imagenette's ten classes")
    parser.add_argument("--mosaics", type=int, default=12)
    parser.add_argument("--confidence", type=float, default=0.5, help="least probability of a photograph's class")
    parser.add_argument("--samples", type=counts, default="4,16", help="of the averages")
    parser.add_argument("--noise", type=float, help="noise_alpha of the averages with noise (default: what dave.calibrate finds)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="folder for the result as JSON")
    parser.add_argument("--picture", type=Path, help="file for the maps of the example pictures")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Check, measure, print and write; returns what is written."""
    options = parse(arguments)
    before = context("dave-jax", "jax", "jaxlib", "numpy", "pillow")
    conv = efficientnet_lite.load(options.weights)
    photographs = read(options.imagenette, conv, skip_unknown=True)
    checked = check(conv, photographs, options.photos, options.accuracy, options.seed)
    print(json.dumps(checked), flush=True)
    small = dataclasses.replace(conv, preprocessing=dataclasses.replace(conv.preprocessing, image_size=(CELL, CELL)))
    results = [measure(small, conv, photographs, STRIDES, options)]
    print(table(results[0]), flush=True)
    small, vit = dave.load(image_size=CELL), dave.load(image_size=2 * CELL)
    patch: Any = vit.forward
    results.append(measure(small, vit, read(options.imagenette, vit, skip_unknown=True), patch.config.patch_size[:1], options))
    print(table(results[1]))
    if options.picture:
        draw(conv, options.picture, results[0]["noise"], options)
    return report("convolutional", before, options, {"checked": checked, "results": results})


if __name__ == "__main__":
    main()
