"""What settings of the environment do for `explain` on a CPU: the allocator's pages, XLA's options.

    python benchmarks/environment.py --output benchmarks/results

Each setting is a process of its own, started with it; all explain the same image by turns, with a random ViT-S/16. Their maps must be
like that of the first, which has no setting, as `speed.py` asks. Add others with `--also NAME=VALUE`.
"""

import argparse
import contextlib
import os
import statistics
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from context import context, report
from sample_cost import Case
from speed import LIKENESS, Disagreement
from worker import Worker

from dave_jax.evaluation.similarity import pearson

SETTINGS = (
    "",
    "GLIBC_TUNABLES=glibc.malloc.hugetlb=1",
    "XLA_FLAGS=--xla_cpu_prefer_vector_width=512",
    "XLA_FLAGS=--xla_cpu_enable_fast_math=true",
    "XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=true",
)
"""The first is none."""


class Side:
    """`explain` in a process."""

    def __init__(self, job: dict[str, Any]):
        self.case = Case.build(**job)

    def run(self) -> np.ndarray:
        """What is timed: the heat map."""
        return np.asarray(self.case.explain())


def measure(settings: list[str], job: dict[str, Any], rounds: int, threads: int) -> dict[str, dict[str, Any]]:
    """Seconds a sample for every setting, and how many times less than without one (median over the rounds)."""
    variables = {setting: dict([setting.split("=", 1)] if setting else []) for setting in settings}
    with contextlib.ExitStack() as stack:
        workers = {
            setting: stack.enter_context(Worker(Side, job, threads=threads, environment=environment, trim=False))
            for setting, environment in variables.items()
        }
        maps = {setting: worker("run").result for setting, worker in workers.items()}
        for setting, found in maps.items():
            if not (likeness := pearson(*map(jnp.asarray, (found, maps[""]))).item()) >= LIKENESS[job["precision"]]:
                raise Disagreement(f"{setting} gives another map: correlation {likeness:.4f}, {LIKENESS[job['precision']]} is asked.")
        seconds = {setting: [] for setting in workers}
        for _ in range(rounds):
            for setting, worker in workers.items():
                seconds[setting].append(worker("run").seconds / job["samples"])
    return {
        setting: {
            "seconds_per_sample": mine,
            "times_faster": statistics.median(none / some for none, some in zip(seconds[""], mine, strict=True)),
        }
        for setting, mine in seconds.items()
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model-size", default="small", help="as in sample_cost.py")
    parser.add_argument("--precision", default="float32", choices=LIKENESS, help="as in DaveConfig")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--also", action="append", default=[], metavar="NAME=VALUE", help="a further setting; may be given several times")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    if wrong := [setting for setting in given.also if "=" not in setting]:
        parser.error(f"--also takes NAME=VALUE; got {wrong[0]!r}")
    settings = [*SETTINGS, *given.also]
    if inherited := sorted({setting.split("=")[0] for setting in settings} & set(os.environ)):
        parser.error(f"{', '.join(inherited)}: set in the environment already, so that no setting would be without. Unset what is named.")
    before = context("dave-jax", "jax", "jaxlib")
    job = {"size": given.model_size, "samples": given.samples, "chunk": None, "precision": given.precision}
    found = measure(settings, job, given.rounds, given.threads)
    print("| setting | ms a sample, least | median | times faster |\n| --- | ---: | ---: | ---: |")
    for setting, row in found.items():
        milliseconds = [1e3 * value for value in row["seconds_per_sample"]]
        print(f"| {setting or 'none'} | {min(milliseconds):.1f} | {statistics.median(milliseconds):.1f} | {row['times_faster']:.3f} |")
    return report("environment", before, given, {"found": found})


if __name__ == "__main__":
    main()
