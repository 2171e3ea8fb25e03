"""Our `explain` against the authors' algorithm in PyTorch: same weights, same samples, same answer; then time and memory.

    python benchmarks/compare_torch.py --output benchmarks/results

1. The PyTorch side (`torch_dave.py`) must reproduce the recordings of the authors' own code, where they lie beside the project.
2. On every model both sides must agree: W_eff of each sample (PyTorch's in double precision, so that one side's rounding is tested and not
   two), the MAD mean over them, the heat map. PyTorch gets the transforms and the noise that `explain` draws.
3. Two fresh processes, one for each side, explain the same images by turns. PyTorch gets its samples ready made; `explain` draws its own
   in the time that is taken.

Each process holds one side only, so its peak memory is that side's. Both may use the same cores and as many threads. Run it on a quiet
machine: load slows PyTorch more than XLA and flatters the ratio.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from context import ROOT, context, report
from sides import MODELS, JaxSide, Job, TorchSide, close_share, distance
from worker import Worker

RECORDINGS = ROOT.parent / "shared" / "goldens"
VARIANTS = ("authors", "tuned")  # of the PyTorch side, see torch_dave.py
SIDES = {"dave_jax": JaxSide, "pytorch": TorchSide}


class Disagreement(RuntimeError):
    """The two sides, or PyTorch and the recordings, do not compute the same: nothing is timed."""


def require(what: str, found: dict[str, float], limits: dict[str, float]) -> dict[str, float]:
    """The distances found, if `raw` and `heat` (shares) are at least, and the others at most, their limits."""
    wrong = [name for name in limits if (found[name] < limits[name] if name in ("raw", "heat") else found[name] > limits[name])]
    if wrong:
        raise Disagreement(f"{what}: " + ", ".join(f"{name} {found[name]:.2e} (limit {limits[name]:g})" for name in wrong))
    return found


def check(job: Job) -> dict[str, Any]:
    """Both sides' answers compared, before anything is timed.

    Shares of elements, not largest differences, where the MAD mask decides: it is a threshold, and rounding moves a few samples across it.
    """
    result: dict[str, Any] = {}
    answers = {}
    with Worker(TorchSide, job, threads=job.threads) as torch:  # writes the weights
        if job.recordings:
            recordings = torch("check_recordings").result
            for name, found in recordings.items():
                require(f"recording {name}", found, {"w_eff": 1e-4, "raw": 0.99, "post": 1e-5})
            result["recordings"] = recordings
        with Worker(JaxSide, job, threads=job.threads) as ours:  # writes the samples
            ours("prepare")
            answers["dave_jax"] = ours("answer").result
        torch("prepare")
        answers["pytorch"] = torch("answer").result
    ours, theirs = answers["dave_jax"], answers["pytorch"]
    found = {
        "w_eff": distance(ours["w_eff"], theirs["w_eff"]),
        "raw": close_share(ours["raw"], theirs["raw"], 1e-4),
        "heat": close_share(ours["heat"], theirs["heat"], 1e-3),
    }
    result["sides"] = require(f"the two sides on {job.model}", found, {"w_eff": 1e-4, "raw": 0.99, "heat": 0.99})
    return result


def measure(job: Job, rounds: int) -> dict[str, Any]:
    """Seconds a sample and MiB of both sides, by turns.

    `compile_seconds` is what the first call takes longer than later ones. Memory is the whole process's: with the model `loaded`,
    before anything is computed; at most in the `first` call, compilation included; and at most in `later` ones.
    """
    per_sample = 1.0 / (job.samples * job.images)
    with Worker(JaxSide, job, threads=job.threads) as ours, Worker(TorchSide, job, threads=job.threads) as theirs:
        workers = {"dave_jax": ours, "pytorch": theirs}
        first, later = {}, {name: [] for name in workers}
        for name, worker in workers.items():
            worker("prepare")
            first[name] = worker("run")
        for _ in range(rounds):
            for name, worker in workers.items():
                later[name].append(worker("run"))
    seconds = {name: [run.seconds * per_sample for run in runs] for name, runs in later.items()}
    result: dict[str, Any] = {
        name: {
            "seconds_per_sample_min": min(seconds[name]),
            "seconds_per_sample_median": statistics.median(seconds[name]),
            "seconds_per_sample": seconds[name],
            "compile_seconds": first[name].seconds - statistics.median(run.seconds for run in later[name]),
            "memory_loaded_mib": first[name].memory_before,
            "memory_first_mib": first[name].memory_peak,
            "memory_later_mib": max(run.memory_peak for run in later[name]),
        }
        for name in workers
    }
    pairs = zip(seconds["pytorch"], seconds["dave_jax"], strict=True)
    result["times_faster_min"] = min(seconds["pytorch"]) / min(seconds["dave_jax"])
    result["times_faster_median"] = statistics.median(theirs / ours for theirs, ours in pairs)
    result["memory_ratio"] = result["dave_jax"]["memory_first_mib"] / result["pytorch"]["memory_first_mib"]
    added = {name: result[name]["memory_first_mib"] - result[name]["memory_loaded_mib"] for name in workers}
    result["memory_added_ratio"] = added["dave_jax"] / added["pytorch"]
    return result


def table(models: dict[str, dict[str, Any]]) -> str:
    """The result as text: a row for each model and side."""
    head = ("model", "side", "s/sample min", "median", "compile s", "loaded MiB", "first", "later")
    keys = (
        "seconds_per_sample_min",
        "seconds_per_sample_median",
        "compile_seconds",
        "memory_loaded_mib",
        "memory_first_mib",
        "memory_later_mib",
    )
    rows, notes = [head], []
    for model, result in models.items():
        for side in SIDES:
            numbers = [result[side][key] for key in keys]
            rows.append((model, side, *(f"{number:.4f}" for number in numbers[:2]), *(f"{number:.1f}" for number in numbers[2:])))
        notes.append(
            f"{model}: {result['times_faster_min']:.2f} times faster (minimum), {result['times_faster_median']:.2f} (median of rounds); "
            f"peak memory {result['memory_ratio']:.2f} of PyTorch's, {result['memory_added_ratio']:.2f} above the loaded model"
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "\n".join([*lines, "", *notes])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", default="vit_small_patch16_224,vit_base_patch16_224", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--variant", choices=VARIANTS, default="authors", help="the PyTorch side: see torch_dave.py")
    parser.add_argument("--images", type=int, default=1, help="photographs in a call")
    parser.add_argument("--samples", type=int, default=8, help="samples of each photograph")
    parser.add_argument(
        "--chunk", type=int, help="samples at once: explain's chunk_size, and the tuned variant's (default: explain's own; 4)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each side")
    parser.add_argument("--threads", type=int, default=2, help="of each side")
    parser.add_argument("--recordings", type=Path, default=RECORDINGS, help="of the authors' code; passed over where there are none")
    parser.add_argument("--output", type=Path, help="folder for the result as JSON")
    parser.add_argument("--quick", action="store_true", help="two samples and two rounds, to see that it works")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.models.split(",")) - set(MODELS))
    if unknown:
        parser.error(f"--models are of {sorted(MODELS)}; got {unknown}")
    if options.quick:
        options.samples, options.rounds = 2, 2
    return options


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Check, measure, print and write; returns what is written."""
    options = parse(arguments)
    recordings = options.recordings if (options.recordings / "configs.json").is_file() else None
    if recordings is None:
        print(f"no recordings of the authors' code in {options.recordings}: PyTorch is checked against dave_jax only", file=sys.stderr)
    before = context("dave-jax", "jax", "jaxlib", "numpy", "timm", "torch")
    models = {}
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            job = Job(model, Path(folder), recordings, options.images, options.samples, options.chunk, options.variant, options.threads)
            agreement = check(job)
            models[model] = {"agreement": agreement, **measure(job, options.rounds)}
    print(table(models))
    return report("compare_torch", before, options, {"models": models})


if __name__ == "__main__":
    main()
