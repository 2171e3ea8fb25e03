"""Traced models against hand-written ones: what `dave.decompose` costs in run time, compilation, memory and operations.

    python benchmarks/traced.py --output benchmarks/results

The same vision transformer twice: by the layers of dave_jax, which know the decomposition, and from its plain forward pass, which
`decompose` interprets. First both must give the same effective transformation; then both compiled programs run by turns in one process.
Where they are the same, instruction for instruction, what is left between their times is noise.
"""

import argparse
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from context import context, report
from sample_cost import Case
from sides import distance

import dave_jax as dave

TOLERANCE = 1e-5
"""Of W_eff in float32, relative to its largest value."""
MODELS = {"embedded": "embedded model", "small": "ViT-S/16, random weights", "base": "ViT-B/16, random weights", "test": "tiny ViT"}
SIDES = ("by hand", "traced")


class Disagreement(RuntimeError):
    """Both sides do not give the same effective transformation: nothing is timed."""


def load(name: str) -> dave.Model:
    return dave.load() if name == "embedded" else Case.build(name, 1, 1).model


def sides(model: dave.Model, batch: int) -> tuple[dict[str, Callable[..., Any]], tuple[Any, Any]]:
    """From parameters and images to the effective transformations of the first logit, for each side; and their arguments."""

    def plain(params, image):
        return model.forward(params, image, "gradient")

    def effective(params, image):
        return model.forward(params, image, "effective")

    def of(logits):
        slope = jax.grad(lambda image, params: logits(params, image)[0])
        return jax.vmap(slope, in_axes=(0, None))

    images = jax.random.normal(jax.random.key(1), (batch, *model.preprocessing.image_size, 3))
    functions = dict(zip(SIDES, (of(effective), of(dave.decompose(plain, argnum=1))), strict=True))
    return functions, (images, model.params)


def compile_by_turns(functions: dict[str, Callable[..., Any]], arguments: tuple[Any, Any], rounds: int) -> dict[str, dict[str, Any]]:
    """The compiled programs, with the least seconds that tracing and compiling took; each round traces and compiles anew."""
    found: dict[str, dict[str, Any]] = {name: {"trace": [], "compile": []} for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            traced = jax.jit(lambda *arguments, function=function: function(*arguments)).trace(*arguments)
            middle = time.perf_counter()
            lowered = traced.lower()
            before = time.perf_counter()
            found[name]["program"] = lowered.compile()
            found[name]["compile"].append(time.perf_counter() - before)
            found[name]["trace"].append(middle - start)
    return found


def instructions(program: Any) -> list[str]:
    """The instructions of a compiled program in order, their names numbered, without source lines and hints."""
    numbers: dict[str, str] = {}
    lines = [line.split(", metadata=")[0].split(", backend_config=")[0] for line in program.as_text().splitlines() if " = " in line]
    return [re.sub(r"%[\w.\-]+", lambda name: numbers.setdefault(name[0], f"%{len(numbers)}"), line) for line in lines]


def costs(found: dict[str, Any]) -> dict[str, float]:
    """What the compiler says of a program, and how long it took to make."""
    program = found["program"]
    memory, analysis = program.memory_analysis(), program.cost_analysis()
    return {
        "trace_seconds": min(found["trace"]),
        "compile_seconds": min(found["compile"]),
        "temporary_mib": memory.temp_size_in_bytes / 2**20,
        "operations": len(instructions(program)),
        "gflop": analysis["flops"] / 1e9,
    }


def measure(programs: dict[str, Callable[..., Any]], arguments: tuple[Any, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of every program, by turns; every other round the other way round."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for i in range(rounds):
        for name in list(programs)[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            jax.block_until_ready(programs[name](*arguments))
            seconds[name].append(time.perf_counter() - start)
    return seconds


def compare(name: str, batch: int, rounds: int, compilations: int) -> dict[str, Any]:
    """Check and measure one model."""
    functions, arguments = sides(load(name), batch)
    found = compile_by_turns(functions, arguments, compilations)
    programs = {side: found[side]["program"] for side in SIDES}
    by_hand, traced = (programs[side](*arguments) for side in SIDES)
    difference = distance(traced, by_hand)
    if not difference < TOLERANCE:
        raise Disagreement(f"W_eff of the traced {MODELS[name]} differs by {difference:.1e} of its largest value; at most {TOLERANCE}.")
    seconds = measure(programs, arguments, rounds)
    ratios = [b / a for a, b in zip(*(seconds[side] for side in SIDES), strict=True)]
    rows = {side: costs(found[side]) | {"seconds": min(seconds[side]) / batch} for side in SIDES}
    return {
        "model": MODELS[name],
        "difference": difference,
        "same_program": instructions(programs["traced"]) == instructions(programs["by hand"]),
        "sides": rows,
        "ratio": {key: rows["traced"][key] / max(rows["by hand"][key], 1e-12) for key in rows["traced"]},
        "ratio_of_rounds_median": statistics.median(ratios),
        "seconds": seconds,
    }


def table(models: list[dict[str, Any]]) -> str:
    """Markdown."""
    columns = {
        "seconds": ("ms an image", 1e3, ".1f"),
        "trace_seconds": ("tracing, s", 1, ".2f"),
        "compile_seconds": ("compiling, s", 1, ".2f"),
        "temporary_mib": ("temporaries, MiB", 1, ".1f"),
        "operations": ("operations", 1, ".0f"),
        "gflop": ("GFLOP counted", 1, ".3f"),
    }
    lines = [
        "| model | side | " + " | ".join(title for title, _, _ in columns.values()) + " |",
        "| --- | --- |" + " ---: |" * len(columns),
    ]
    for model in models:
        for side, row in model["sides"].items():
            cells = (format(scale * row[key], style) for key, (_, scale, style) in columns.items())
            lines.append(f"| {model['model']} | {side} | " + " | ".join(cells) + " |")
        lines.append("| | ratio | " + " | ".join(f"{model['ratio'][key]:.2f}" for key in columns) + " |")
    for model in models:
        lines.append(
            f"\n{model['model']}: W_eff differs by {model['difference']:.1e} of its largest value; "
            f"the compiled programs are {'the same, instruction for instruction' if model['same_program'] else 'not the same'}; "
            f"median ratio of the rounds {model['ratio_of_rounds_median']:.2f}"
        )
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["embedded", "small"], help="which")
    parser.add_argument("--batch", type=int, default=4, help="images at once")
    parser.add_argument("--rounds", type=int, default=9, help="timed calls of either side")
    parser.add_argument("--compilations", type=int, default=2, help="of either side; the quickest counts")
    parser.add_argument("--output", type=Path, help="folder for the result as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Check, measure, print and write; returns what is written."""
    options = parse(arguments)
    before = context("dave-jax", "jax", "jaxlib", "numpy")
    models = [compare(name, options.batch, options.rounds, options.compilations) for name in options.models]
    print(table(models))
    return report("traced", before, options, {"models": models})


if __name__ == "__main__":
    main()
