"""How long does a map take that is as good as the authors' of 50 samples? One class and five of one image, ours against theirs.

    pip install -e '.[parity]'
    python benchmarks/headline.py --model ../shared/models/vit_s14_photos98 --data ../shared/images --output benchmarks/results

1. Quality, on a trained network and photographs: likeness (correlation of heat maps) to a map of many independent samples in float32,
   of the authors' settings (independent samples, MAD mean, float32) with 50 samples and of ours (lattice, biweight mean, smoothing,
   factors of products in bfloat16) with fewer. Nothing is timed where ours are less like it: where the 95 % interval of the difference,
   over photographs, lies below 0. Few photographs cannot tell; look at the difference.
2. Agreement: `explain` with the authors' settings and their algorithm in PyTorch give the same map (see `compare_torch.py`).
3. Time, by turns, each side in a process of its own: the whole of a call. The authors explain one class a call; five take five. With
   `--devices` ours also where the same cores are several JAX devices, which share the samples.

What our settings gain depends on the processor: bfloat16 is fast where it multiplies it in hardware (AMX, AVX-512).
"""

import argparse
import contextlib
import dataclasses
import statistics
import tempfile
from pathlib import Path
from typing import Any

import compare_torch
import jax
import numpy as np
from context import context, report
from photographs import choose
from sides import JaxSide, Job, TorchSide
from worker import Worker

import dave_jax as dave
from dave_jax.evaluation.data import read
from dave_jax.evaluation.similarity import pearson
from dave_jax.evaluation.statistics import bootstrap_difference

OURS = {"sampler": "lattice", "aggregation": "biweight", "smoothing": True, "precision": "bfloat16_products"}
THEIRS = {"sampler": "independent", "aggregation": "mad_mean", "smoothing": False, "precision": "float32"}
CLASSES = {"one": 1, "five": 5}
"""What is timed of ours: methods, and how many classes of one image they explain."""


def settings(config: dave.DaveConfig, samples: int, which: dict[str, Any]) -> dave.DaveConfig:
    return dataclasses.replace(config, num_samples=samples, chunk_size=None, mad_pilot=None, **which)


class Worse(RuntimeError):
    """Our maps are less like the reference than the authors': their times cannot be compared."""


def quality(given: argparse.Namespace) -> dict[str, Any]:
    """Likeness to the reference: [photograph, run] for theirs and ours."""
    model = dave.load(given.model) if given.model else dave.load()
    chosen = choose(read(given.data, model, skip_unknown=True), model, given.photographs, given.confidence, 0)

    def maps(config: dave.DaveConfig, seed: int) -> jax.Array:
        return dave.explain(model, chosen.images, chosen.targets, key=jax.random.key(seed), config=config)

    reference = maps(settings(model.config, given.reference, THEIRS), 0)
    found = {}
    for name, samples, which in (("theirs", given.theirs, THEIRS), ("ours", given.ours, OURS)):
        runs = [pearson(maps(settings(model.config, samples, which), 1 + run), reference) for run in range(given.runs)]
        found[name] = np.stack(runs, axis=1)
    rows = {name: f"{values.mean():.4f}, least {values.mean(1).min():.4f}" for name, values in found.items()}
    above = bootstrap_difference(found["ours"].mean(1), found["theirs"].mean(1), 0)
    print(
        f"likeness, {len(chosen.targets)} photographs: theirs, {given.theirs} samples, {rows['theirs']}; "
        f"ours, {given.ours}, {rows['ours']}; difference {above.mean:+.4f} (95 % {above.low:+.4f} to {above.high:+.4f})",
        flush=True,
    )
    if not (np.isfinite(found["ours"]).all() and (above.mean >= 0 or above.high >= 0)):  # one photograph has no interval
        raise Worse(f"{given.ours} samples of ours are less like the reference than {given.theirs} of theirs: give --ours more.")
    return {name: values.tolist() for name, values in found.items()}


@dataclasses.dataclass(frozen=True)
class Task(Job):
    """A `Job` of the authors' samples; `ours` is how many we take, and on how many devices."""

    ours: int
    devices: int


class OurSide(JaxSide):
    """`explain` with our settings."""

    def __init__(self, job: Task):
        jax.config.update("jax_num_cpu_devices", job.devices)
        super().__init__(job)
        self.config = settings(self.config, job.ours, OURS)
        self.mesh = jax.make_mesh((job.devices,), ("samples",)) if job.devices > 1 else None

    def one(self) -> None:
        self._classes(1)

    def five(self) -> None:
        self._classes(5)

    def _classes(self, count: int) -> None:
        targets = np.arange(count)[None]
        options = {"key": self.key, "config": self.config, "image_ids": self.ids, "mesh": self.mesh}
        self.dave.explain(self.model, self.images, targets, **options).block_until_ready()


def times(model: str, given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of theirs for one class, and of ours for one and five; how many times less that is than theirs of as many classes."""
    common = {"model": model, "recordings": None, "images": 1, "chunk": None, "variant": "authors", "threads": given.threads}
    with tempfile.TemporaryDirectory() as folder:
        agreement = compare_torch.check(Job(**common, folder=Path(folder), samples=2))
    with tempfile.TemporaryDirectory() as folder:
        task = Task(**common, folder=Path(folder), samples=given.theirs, ours=given.ours, devices=1)
        with contextlib.ExitStack() as stack, Worker(TorchSide, task, threads=given.threads) as theirs:
            with Worker(JaxSide, task, threads=given.threads) as drawn:
                drawn("prepare")
            theirs("prepare")
            tasks = {"ours": task}
            if given.devices > 1:
                tasks[f"ours on {given.devices} devices"] = dataclasses.replace(task, devices=given.devices)
            workers = {name: stack.enter_context(Worker(OurSide, each, threads=given.threads)) for name, each in tasks.items()}
            calls = {f"{name}, {method}": (worker, method) for name, worker in workers.items() for method in CLASSES}
            theirs("run")
            for worker, method in calls.values():  # compiles
                worker(method)
            seconds: dict[str, list[float]] = {name: [] for name in ("theirs", *calls)}
            for _ in range(given.rounds):
                seconds["theirs"].append(theirs("run").seconds)
                for name, (worker, method) in calls.items():
                    seconds[name].append(worker(method).seconds)
    ratios = {
        name: statistics.median(CLASSES[method] * their / our for their, our in zip(seconds["theirs"], seconds[name], strict=True))
        for name, (_, method) in calls.items()
    }
    print(f"{model}: theirs {min(seconds['theirs']):.1f} s a class")
    print("| classes of one image | s | times less, median of rounds |\n| --- | ---: | ---: |")
    for name, ratio in ratios.items():
        print(f"| {name} | {min(seconds[name]):.2f} | {ratio:.2f} |", flush=True)
    return {"agreement": agreement, "seconds": seconds, "times_less": ratios}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", default="vit_small_patch16_224,vit_base_patch16_224", help="timed, with random weights")
    parser.add_argument("--model", help="folder or name, for the quality (default: the embedded model)")
    parser.add_argument("--data", required=True, help="photographs with labels, as `dave-jax evaluate` reads them")
    parser.add_argument("--photographs", type=int, default=8)
    parser.add_argument("--confidence", type=float, default=0.5, help="the least probability of a photograph's class")
    parser.add_argument("--reference", type=int, default=2000, help="samples")
    parser.add_argument("--theirs", type=int, default=50, help="samples")
    parser.add_argument("--ours", type=int, default=34, help="samples")
    parser.add_argument("--runs", type=int, default=3, help="maps of each photograph, for the quality")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls")
    parser.add_argument("--devices", type=int, default=1, help="that ours is also timed on; they share the threads")
    parser.add_argument("--threads", type=int, default=2, help="of each side")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    before = context("dave-jax", "jax", "jaxlib", "numpy", "timm", "torch")
    found = {"likeness": quality(given), "models": {name: times(name, given) for name in given.models.split(",")}}
    return report("headline", before, given, found, of_ours=OURS, of_theirs=THEIRS)


if __name__ == "__main__":
    main()
