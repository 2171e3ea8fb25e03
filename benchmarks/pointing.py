"""What more samples do for the grid pointing game: its score against their number, in the authors' way and in ours.

    python benchmarks/pointing.py --model ../shared/models/vit_s14_photos98 --data ../shared/images --cell 112 --output benchmarks/results

Mosaics of 2 x 2 photographs that the model knows at the size of a cell; the share of each class's positive attribution that lies on its own
photograph (chance 0.25), mean over the four. Every way draws transforms and noise of its own for every number of samples. Differences to
the authors' way with most samples are paired, by mosaic, with 95 % intervals.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from context import context, report
from photographs import Mosaics, choose, mosaics

import dave_jax as dave
from dave_jax.evaluation.data import read
from dave_jax.evaluation.grid import grid_pointing_game
from dave_jax.evaluation.statistics import bootstrap, bootstrap_difference
from dave_jax.models.resize import at_image_size

WAYS: dict[str, dict[str, Any]] = {
    "independent, mad_mean": {"sampler": "independent", "aggregation": "mad_mean", "smoothing": False},
    "lattice, biweight": {"sampler": "lattice", "aggregation": "biweight", "smoothing": False},
    "lattice, biweight, smoothed": {"sampler": "lattice", "aggregation": "biweight", "smoothing": True},
}
"""The first is the authors'."""


def score(grids: Mosaics, count: int, way: dict[str, Any], precision: str, key: jax.Array) -> np.ndarray:
    """The grid pointing game of every mosaic, the mean over its cells."""
    config = dataclasses.replace(grids.model.config, num_samples=count, chunk_size=None, precision=precision, **way)
    maps = dave.explain(grids.model, grids.images, grids.targets, key=key, config=config, raw=True).sum(-1)
    return np.asarray(grid_pointing_game(maps, grids.cells)).mean(axis=1)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", help="folder or name (default: the embedded model)")
    parser.add_argument("--data", required=True, help="photographs with labels, as `dave-jax evaluate` reads them")
    parser.add_argument("--photographs", type=int, default=30)
    parser.add_argument("--cell", type=int, help="edge of a photograph in a mosaic, in pixels (default: the model's image size)")
    parser.add_argument("--mosaics", type=int, default=16)
    parser.add_argument("--counts", default="4,10,20,50", help="of samples, at least 4, which smoothing needs")
    parser.add_argument("--confidence", type=float, default=0.5, help="the least probability of a photograph's class")
    parser.add_argument("--precision", default="float32", help="as in DaveConfig")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    before = context("dave-jax", "jax", "jaxlib")
    model = dave.load(given.model) if given.model else dave.load()
    small = at_image_size(model, (given.cell, given.cell)) if given.cell else model
    chosen = choose(read(given.data, model, skip_unknown=True), small, given.photographs, given.confidence, 0)
    grids = mosaics(chosen, model, given.mosaics, 0)
    counts = [int(count) for count in given.counts.split(",")]
    scores = np.zeros((len(WAYS), len(counts), len(grids.images)))
    for w, (name, way) in enumerate(WAYS.items()):
        for c, count in enumerate(counts):
            start, key = time.perf_counter(), jax.random.fold_in(jax.random.key(w), count)
            scores[w, c] = score(grids, count, way, given.precision, key)
            print(f"{name}, {count} samples: {scores[w, c].mean():.4f} in {time.perf_counter() - start:.0f} s", flush=True)
    print(f"\n{len(grids.images)} mosaics: grid pointing game, and its difference to that of {counts[-1]} samples of the first, [95 %]")
    print("| way | " + " | ".join(map(str, counts)) + " |\n| --- |" + " ---: |" * len(counts))
    for name, rows in zip(WAYS, scores, strict=True):
        cells = [(bootstrap(row, 0), bootstrap_difference(row, scores[0, -1], 0)) for row in rows]
        shown = (f"{mean.mean:.4f} ({less.mean:+.4f} [{less.low:+.4f}, {less.high:+.4f}])" for mean, less in cells)
        print(f"| {name} | " + " | ".join(shown) + " |")
    return report("pointing", before, given, {"scores": np.round(scores, 5).tolist()}, counts=counts, ways=WAYS)


if __name__ == "__main__":
    main()
