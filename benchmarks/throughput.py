"""`explain_dataset` against bare `explain`: does reading, transfer and writing hide behind the computation, and does memory stay flat?

    python benchmarks/throughput.py --output benchmarks/results

The embedded model explains the same photographs with the same chunk, by turns: `explain` on batches that are in memory, and a run over JPEG
files into a store. The maps must be the same. Compilation is not counted on either side. Then a
tiny model explains 2000 small photographs in one run, whose memory is read after each batch.
"""

import argparse
import dataclasses
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from context import context, report
from PIL import Image

import dave_jax as dave
from dave_jax.batch import run as running
from dave_jax.batch.dataset import execute, prepare

KEY = jax.random.key(0)
TOLERANCE = 1e-5
LEAST = 0.9
"""Of the images a second of bare `explain`."""

MOST_GROWTH = 0.05
"""Of the process's memory, from the end of the first fifth of the run to its end."""


def make_photographs(folder: Path, count: int, size: int) -> list[Path]:
    """JPEG files of noise that is smooth, so that they have a photograph's size on disk."""
    draw = np.random.default_rng(0)
    paths = []
    for i in range(count):
        pixels = draw.integers(0, 256, (size // 8, size // 8, 3), np.uint8)
        paths.append(folder / f"{i:05}.jpg")
        Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def clocks() -> np.ndarray:
    """Seconds, and the processor's seconds that this process took, on which other processes' load hardly tells."""
    return np.array([time.perf_counter(), time.process_time()])


def resident() -> int:
    """Bytes of this process's memory."""
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def speed(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both ways by turns, on the same photographs."""
    model = dave.load()
    photographs = make_photographs(folder, options.images, 400)
    config = model.config.with_samples(options.samples)
    numbers, size = np.arange(options.images), options.batch_size
    job = prepare(model, photographs, folder / "0.zarr", key=KEY, config=config, batch_size=size, targets="top-1")
    config = dave.DaveConfig(**job.attributes["run"]["config"])  # with the chunk
    images = model.preprocess(photographs)
    targets = np.argmax(np.asarray(model.logits(images)), axis=1)
    job.work.compile()  # kept by the job

    def bare(batches: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        start, maps = clocks(), []
        for rows in batches:
            maps.append(dave.explain(model, images[rows], targets[rows], key=KEY, config=config, image_ids=rows.astype(np.uint32)))
        found = np.concatenate(jax.block_until_ready(maps))
        return clocks() - start, found

    batches = np.split(numbers, range(size, options.images, size))
    bare(batches[:1])  # compiles
    rounds, differences = [], []
    for i in range(options.rounds):
        seconds, expected = bare(batches)
        place = folder / f"{i}.zarr"
        start = clocks()
        execute(dataclasses.replace(job, place=str(place), stored=False), num_workers=options.workers)
        batch = clocks() - start
        stored = np.asarray(dave.open_maps(place).arrays["maps"])[:, 0]
        differences.append(np.abs(stored - expected).max(axis=(1, 2)))
        rounds.append({"explain": seconds.tolist(), "batch": batch.tolist()})
    difference = float(np.quantile(differences, 0.9))  # in another batch a sample may fall on the other side of MAD's threshold
    if not difference < TOLERANCE:
        raise RuntimeError(f"Nine maps in ten must agree to {TOLERANCE}; they differ by {difference:.1e}. Nothing is reported.")
    best, processor = (min(one["explain"][i] for one in rounds) / min(one["batch"][i] for one in rounds) for i in (0, 1))
    ratios = [one["explain"][0] / one["batch"][0] for one in rounds]
    found = {"ratios": ratios, "median": float(np.median(ratios)), "share": best, "processor": processor}
    return {"rounds": rounds, "difference": difference, "chunk": config.chunk_size} | found


def memory(folder: Path, count: int, workers: int) -> dict[str, Any]:
    """Of this process after each batch of a long run."""
    photographs = make_photographs(folder, count, 24)
    model = dave.testing.tiny_model()
    job = prepare(model, photographs, folder / "long.zarr", key=KEY, batch_size=16)
    found: list[int] = []
    add = running.Progress.add

    def note(self: Any, *arguments: int) -> None:
        add(self, *arguments)
        found.append(resident())

    running.Progress.add = note
    try:
        outcome = execute(job, num_workers=workers)
    finally:
        running.Progress.add = add
    early = max(found[: max(1, len(found) // 5)])
    return {"images": outcome.explained, "early_bytes": early, "last_bytes": found[-1], "growth": found[-1] / early - 1}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Check, measure, print and write; returns what is written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=int, default=16, help="a multiple of the batch size")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="processes that read; their start is counted")
    parser.add_argument("--long", type=int, default=2000, help="images of the run whose memory is watched")
    parser.add_argument("--output", type=Path, help="folder for the result as JSON")
    options = parser.parse_args(arguments)
    before = context("dave-jax", "jax", "grain", "tensorstore")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        measured = speed(Path(one), options)
        rounds = ", ".join(f"{ratio:.1%}" for ratio in measured["ratios"])
        print(
            f"{options.images} images, {options.samples} samples in chunks of {measured['chunk']}: "
            f"batch at {measured['median']:.1%} of explain's speed (median of {rounds}; of the minima {measured['share']:.1%}); "
            f"by the processor's time {measured['processor']:.1%}",
            flush=True,
        )
        watched = memory(Path(two), options.long, options.workers)
    grown, last = watched["growth"], watched["last_bytes"] / 2**20
    print(f"{watched['images']} images: memory grows by {grown:.1%} after the first fifth, to {last:.0f} MiB")
    found = {
        "speed": measured,
        "memory": watched,
        "passed": min(measured["median"], measured["processor"]) >= LEAST and watched["growth"] <= MOST_GROWTH,
    }
    return report("throughput", before, options, found)


if __name__ == "__main__":
    sys.exit(not main()["passed"])
