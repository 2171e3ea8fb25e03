"""What does half precision do to a map? Likeness to float32's, and the grid pointing game, on a trained network and photographs.

    python benchmarks/precision.py --model ../shared/models/vit_s14_photos98 --data ../shared/images --output benchmarks/results

The same key, so the same transforms and noise, in each precision: `highest` is float32 with products in float32 too (GPUs round factors
to TF32 by default, TPUs to bfloat16), `float32` what the device makes of it, the others those of `DaveConfig.precision`. Beside them
float32 with another key: the likeness that sampling alone leaves, which is what a loss of precision must be held against.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from context import context, report
from photographs import choose, mosaics

import dave_jax as dave
from dave_jax.evaluation.data import read
from dave_jax.evaluation.grid import grid_pointing_game
from dave_jax.evaluation.similarity import pearson, top_overlap
from dave_jax.models.resize import at_image_size

VARIANTS = {
    "highest": ("float32", "highest", 0),
    "float32": ("float32", None, 0),
    "bfloat16": ("bfloat16", None, 0),
    "bfloat16_products": ("bfloat16_products", None, 0),
    "other draws": ("float32", "highest", 1),
}
"""Precision of the config, precision of products, key."""


def maps(model: dave.Model, images: jax.Array, targets: Any, samples: int, name: str, *, raw: bool) -> jax.Array:
    """The maps of a variant."""
    precision, products, seed = VARIANTS[name]
    config = dataclasses.replace(model.config, num_samples=samples, chunk_size=None, precision=precision)
    with jax.default_matmul_precision(products):
        return dave.explain(model, images, targets, key=jax.random.key(seed), config=config, raw=raw)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", help="folder or name (default: the embedded model)")
    parser.add_argument("--data", required=True, help="photographs with labels, as `dave-jax evaluate` reads them")
    parser.add_argument("--photographs", type=int, default=24)
    parser.add_argument("--confidence", type=float, default=0.5, help="the least probability of a photograph's class")
    parser.add_argument("--mosaics", type=int, default=16)
    parser.add_argument("--cell", type=int, help="edge of a photograph in a mosaic, in pixels (default: the model's image size)")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    before = context("dave-jax", "jax", "jaxlib")
    model = dave.load(given.model) if given.model else dave.load()
    small = at_image_size(model, (given.cell, given.cell)) if given.cell else model
    photographs = read(given.data, model, skip_unknown=True)
    chosen, cells = (choose(photographs, each, given.photographs, given.confidence, 0) for each in (model, small))
    grids = mosaics(cells, model, given.mosaics, 0)
    found: dict[str, dict[str, Any]] = {}
    reference = None
    print(
        "| variant | correlation | least | overlap of the top tenth | grid pointing game | s |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    for name in VARIANTS:
        start = time.perf_counter()
        heat = maps(model, chosen.images, chosen.targets, given.samples, name, raw=False)
        signed = maps(grids.model, grids.images, grids.targets, given.samples, name, raw=True).sum(-1)
        reference = heat if reference is None else reference
        likeness, overlap = np.asarray(pearson(heat, reference)), np.asarray(top_overlap(heat, reference))
        grid = np.asarray(grid_pointing_game(signed, grids.cells))
        found[name] = {"correlation": likeness.tolist(), "overlap": overlap.tolist(), "grid": grid.tolist()}
        shown = " | ".join(f"{value:.4f}" for value in (likeness.mean(), likeness.min(), overlap.mean(), grid.mean()))
        print(f"| {name} | {shown} | {time.perf_counter() - start:.0f} |", flush=True)
    return report("precision", before, given, {"variants": found})


if __name__ == "__main__":
    main()
