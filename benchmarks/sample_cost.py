"""What a sample of `explain` costs, and which part of it each stage takes: the passes through the model, the warp, the noise, the average.

    python benchmarks/sample_cost.py --model-size small --output benchmarks/results

1. The stages, each compiled by itself, run one after the other must give the samples, the raw attribution and the heat map of `explain`.
2. By turns in one process: the compiled program of `explain` as a whole, and each stage on the same arrays, in the same chunks.
3. From the compiler: seconds to compile, temporary memory, and the floating point operations of one chunk beside those that its matrix
   products require. XLA counts the body of a loop once, whatever the number of turns (blocks run under one loop forward and one backward),
   and its count includes elementwise work.

A stage alone reads and writes arrays that stay in registers or cache inside `explain`, so the stages may add up to more than the whole;
more so where every call gets new pages of memory from the system (see README.md).
"""

import argparse
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from context import context, report
from sides import MODELS, close_share, distance

import dave_jax as dave
from convert_weights.timm import config_from_options
from dave_jax.attribution.fit import fitted
from dave_jax.attribution.neighbourhood import robust_mean
from dave_jax.effective.decomposition import resolve
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig, init_params
from dave_jax.sampling.noise import add_noise, noise_levels, standard_normal
from dave_jax.sampling.transforms import Transform, apply_transform, sample_transform

SIZES = {"small": "vit_small_patch16_224", "base": "vit_base_patch16_224", "test": "vit_test"}
GROUPS = {
    "forward and backward": ("passes",),
    "warp and adjoint": ("warp", "adjoint"),
    "drawing transforms": ("transforms",),
    "noise": ("noise", "mix"),
    "mad_mean": ("aggregate",),
    "postprocess": ("postprocess",),
}
"""The stages as they are reported."""


class Disagreement(RuntimeError):
    """The stages do not compose to `explain`: nothing is timed."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One image to explain by a model with random weights."""

    model: dave.Model
    config: dave.DaveConfig
    images: jax.Array
    targets: jax.Array
    key: jax.Array

    @classmethod
    def build(cls, size: str, samples: int, chunk: int | None, precision: str = "float32") -> "Case":
        config = config_from_options(MODELS[SIZES[size]])
        params = init_params(jax.random.key(0), config)
        model = dave.Model(params, ViT(config), preprocessing=dave.Preprocessing(image_size=config.image_size))
        images = jax.random.normal(jax.random.key(1), (1, *config.image_size, 3))
        like = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
        settings = dave.DaveConfig(num_samples=samples, chunk_size=chunk, noise_alpha=0.5, precision=precision)
        settings = fitted(settings, model, resolve("effective"), like, 1)
        if samples % settings.chunk_size:
            raise ValueError(
                f"The chunk must divide the samples, or one chunk is not like another; got {samples} samples by {settings.chunk_size}."
            )
        return cls(model, settings, images, jnp.array([1]), jax.random.key(2))

    def explain(self, **options) -> Any:
        ids = jnp.zeros(1, jnp.int32)
        return dave.explain(self.model, self.images, self.targets, key=self.key, config=self.config, image_ids=ids, **options)


def make_stages(case: Case) -> dict[str, functools.partial]:
    """The stages of `explain`: compiled programs with their arguments, which are the results of the stages before."""
    forward, config, rules = case.model.forward, case.config, resolve("effective").backwards()
    image, shape = case.images[0], case.images.shape[1:]

    def compiled(function: Callable, *arguments: Any) -> functools.partial:
        return functools.partial(jax.jit(function).lower(*arguments).compile(), *arguments)

    def chunked(one: Callable, shared: Any, each: Any) -> functools.partial:
        return compiled(lambda shared, each: jax.lax.map(lambda x: one(shared, x), each, batch_size=config.chunk_size), shared, each)

    def passes(shared, neighbour):
        params, cotangent = shared
        _, pull = jax.vjp(lambda x: forward(params, x, rules), neighbour)
        return pull(cotangent)[0]

    def warp(image, matrix):
        return apply_transform(Transform(matrix), image, config.warp_adjoint)

    def adjoint(image, each):
        matrix, gradient, level = each
        _, pull = jax.vjp(lambda image: warp(image, matrix), image)
        return image * pull((1.0 - level) * gradient)[0]

    cotangent = jax.nn.one_hot(case.targets[0], forward.config.num_classes)
    image_key = jax.random.fold_in(case.key, 0)
    keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(image_key, i)))(jnp.arange(config.num_samples))
    levels = noise_levels(config.num_samples, config.noise_alpha, config.schedule)

    stages: dict[str, functools.partial] = {}
    stages["transforms"] = chunked(lambda config, key: sample_transform(key, config, *shape[:2]).matrix, config, keys[:, 0])
    matrices = stages["transforms"]()
    stages["noise"] = chunked(lambda _, key: standard_normal(key, shape), None, keys[:, 1])
    stages["warp"] = chunked(warp, image, matrices)
    stages["mix"] = chunked(lambda _, each: add_noise(*each), None, (stages["warp"](), stages["noise"](), levels))
    stages["passes"] = chunked(passes, (case.model.params, cotangent), stages["mix"]())
    stages["adjoint"] = chunked(adjoint, image, (matrices, stages["passes"](), levels))
    aggregate = lambda samples, config: robust_mean(lambda number: samples[number], config, None)[0]
    stages["aggregate"] = compiled(aggregate, stages["adjoint"](), config)
    stages["postprocess"] = compiled(dave.postprocess, stages["aggregate"](), config)
    return stages


def check(case: Case, program: Callable[[], Any], stages: dict[str, functools.partial]) -> dict[str, float]:
    """The stages composed, and the program that is timed, against `explain`.

    The MAD mask is a threshold: for what comes after it, shares of close elements.
    """
    raw, samples = case.explain(raw=True, return_samples=True)
    found = {
        "samples": distance(stages["adjoint"](), samples[0]),
        "raw": close_share(stages["aggregate"](), raw[0], 1e-4),
        "heat": close_share(stages["postprocess"](), program()[0], 1e-3),
        "program": close_share(dave.postprocess(raw[0], case.config), program()[0], 1e-3),
    }
    if found["samples"] > 1e-4 or min(found["raw"], found["heat"], found["program"]) < 0.99:
        raise Disagreement(f"the stages do not compose to explain: {found} (samples at most 1e-4, the others at least 0.99).")
    return found


def measure(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call, by turns."""
    seconds = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return seconds


def shares(seconds: dict[str, list[float]], samples: int) -> dict[str, dict[str, float]]:
    """The whole, the groups of stages and their sum: seconds a sample, and share of the whole (minimum, and median over rounds)."""
    whole = np.array(seconds["program"])
    groups = {name: np.sum([seconds[stage] for stage in stages], axis=0) for name, stages in GROUPS.items()}
    rows = {"explain": whole, **groups, "sum of the stages": np.sum(list(groups.values()), axis=0)}
    return {
        name: {
            "seconds_per_sample_min": float(row.min()) / samples,
            "seconds_per_sample_median": statistics.median(row.tolist()) / samples,
            "share_of_min": float(row.min() / whole.min()),
            "share_median": float(np.median(row / whole)),
        }
        for name, row in rows.items()
    }


def products(config: ViTConfig, chunk: int, depth: int) -> float:
    """Floating point operations that the matrix products of a chunk require, `depth` blocks forward and backward.

    With frozen operators nothing goes back through queries, keys and softmax: the backward pass of a block has four products with weights
    (value, projection, the two of the MLP) where the forward pass has six, and one with the attention where that has two. In the last
    block all tokens have keys and values, and those that the head reads the rest. The logits themselves are not needed; the head's
    backward product is one row for all samples.
    """
    patches = config.grid[0] * config.grid[1]
    tokens, width, hidden = patches + config.num_prefix, config.width, config.mlp_width

    def block(rows: int) -> int:
        forward = 2 * tokens * width**2 + rows * (2 * width**2 + 2 * width * hidden) + 2 * rows * tokens * width
        return forward + tokens * width**2 + rows * (width**2 + 2 * width * hidden) + rows * tokens * width

    embedding = 2 * patches * 3 * config.patch_size[0] * config.patch_size[1] * width
    blocks = (depth - 1) * block(tokens) + block(config.num_read or tokens)
    return 2.0 * (chunk * (embedding + blocks) + width * config.num_classes)


def compile_program(case: Case) -> tuple[functools.partial, dict[str, float]]:
    """`explain` compiled as one program with its arguments, and what that cost."""

    def explain(params, images, key, config):
        return Case(dataclasses.replace(case.model, params=params), config, images, case.targets, key).explain()

    arguments = case.model.params, case.images, case.key, case.config
    start = time.perf_counter()
    lowered = jax.jit(explain).lower(*arguments)
    traced = time.perf_counter()
    compiled = lowered.compile()
    costs = {
        "trace_seconds": traced - start,
        "compile_seconds": time.perf_counter() - traced,
        "temporary_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,
    }
    return functools.partial(compiled, *arguments), costs


def count_operations(case: Case, program: functools.partial, passes: functools.partial) -> dict[str, float]:
    """Floating point operations: the compiler's count for one chunk, the bodies of loops once, and what matrix products require."""
    config, chunk = case.model.forward.config, case.config.chunk_size or 1
    return {
        "explain_once": float(program.func.cost_analysis()["flops"]),
        "passes_once": float(passes.func.cost_analysis()["flops"]),
        "products_once": products(config, chunk, 2 if config.num_read else 1),  # where the last block is no turn of the loop
        "products_per_sample": products(config, chunk, config.depth) / chunk,
    }


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    lines = [f"{'':22}{'ms/sample min':>14}{'median':>10}{'% of explain':>14}{'median':>10}"]
    for name, row in result["parts"].items():
        milliseconds = (1e3 * row["seconds_per_sample_min"], 1e3 * row["seconds_per_sample_median"])
        percent = (100 * row["share_of_min"], 100 * row["share_median"])
        lines.append(f"{name:22}{milliseconds[0]:14.3f}{milliseconds[1]:10.3f}{percent[0]:14.2f}{percent[1]:10.2f}")
    costs, count = result["compiler"], result["operations"]
    rate = count["products_per_sample"] / result["parts"]["forward and backward"]["seconds_per_sample_min"]
    lines += [
        "",
        f"explain: traced in {costs['trace_seconds']:.1f} s, compiled in {costs['compile_seconds']:.1f} s, "
        f"{costs['temporary_mib']:.0f} MiB of temporaries",
        f"one chunk, bodies of loops once, GFLOP: explain {count['explain_once'] / 1e9:.3f}, forward and backward "
        f"{count['passes_once'] / 1e9:.3f}, products required {count['products_once'] / 1e9:.3f} "
        f"({count['passes_once'] / count['products_once']:.3f} times)",
        f"products required for a sample: {count['products_per_sample'] / 1e9:.3f} GFLOP, done at {rate / 1e9:.1f} GFLOP/s",
    ]
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model-size", choices=SIZES, default="small", help="ViT-S/16 or ViT-B/16 at 224 pixels; test is a tiny one")
    parser.add_argument("--samples", type=int, default=8, help="of the one image")
    parser.add_argument("--chunk", type=int, help="samples at once (default: explain's own choice)")
    parser.add_argument("--rounds", type=int, default=9, help="timed calls of everything")
    parser.add_argument("--output", type=Path, help="folder for the result as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Check, measure, print and write; returns what is written."""
    options = parse(arguments)
    before = context("dave-jax", "jax", "jaxlib", "numpy")
    case = Case.build(options.model_size, options.samples, options.chunk)
    program, costs = compile_program(case)
    stages = make_stages(case)
    agreement = check(case, program, stages)
    seconds = measure({"program": program, **stages}, options.rounds)
    found = {
        "agreement": agreement,
        "compiler": costs,
        "operations": count_operations(case, program, stages["passes"]),
        "parts": shares(seconds, options.samples),
        "seconds": seconds,
    }
    print(table(found))
    return report("sample_cost", before, options, found, chunk=case.config.chunk_size)


if __name__ == "__main__":
    main()
