"""How near to the machine's limit is `explain`? Time a sample and utilisation, on whatever device JAX has.

    python benchmarks/speed.py --output benchmarks/results
    python benchmarks/speed.py --precisions float32,bfloat16 --adjoints scatter,gather --chunks 16,64,128 --samples 128 --torch   # on a GPU

Utilisation is the floating point operations that a sample's matrix products require, over its time, over the rate at which the same machine
multiplies large matrices of that precision, measured by turns with it. Every variant must give the heat map of float32 with the scattering
warp, up to what its precision loses, before anything is timed. With several classes of one image the forward pass is shared: the cost of k
classes is given as a multiple of that of one.

With `--torch` the authors' algorithm and a tuned version of it run on the same device (`torch_dave.py`), with as many samples at once;
their maps are held against ours in `compare_torch.py`.
"""

import argparse
import dataclasses
import functools
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch shares the device

import jax
import jax.numpy as jnp
from context import context, report
from sample_cost import SIZES, Case, Disagreement, measure, products

import dave_jax as dave
from dave_jax.evaluation.similarity import pearson

LIKENESS = {"float32": 0.999, "bfloat16": 0.97, "bfloat16_products": 0.97}
"""The least correlation of a variant's heat map with that of float32: of a network with random weights, whose maps are noise."""


def product_call(precision: str) -> tuple[Callable[[], Any], float]:
    """A product of two large matrices, and its floating point operations."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    left, right = (
        jax.random.normal(key, (size, size)).astype(precision.removesuffix("_products")) for key in jax.random.split(jax.random.key(0))
    )
    multiply = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.float32))
    return lambda: multiply(left, right), 2.0 * size**3


def variant(case: Case, precision: str, adjoint: str, chunk: int | None, classes: int) -> Callable[[], Any]:
    """`explain` with these settings."""
    config = dataclasses.replace(case.config, precision=precision, warp_adjoint=adjoint, chunk_size=chunk)
    targets = jnp.arange(classes)[None]
    ids = jnp.zeros(1, jnp.int32)
    return lambda: dave.explain(case.model, case.images, targets, key=case.key, config=config, image_ids=ids)


def torch_calls(case: Case, name: str, chunk: int) -> dict[str, Callable[[], Any]]:
    """The authors' algorithm and the tuned one on the same device; samples ready made, the weights PyTorch's own."""
    import torch
    import torch_dave
    from sides import MODELS
    from timm.models.vision_transformer import VisionTransformer

    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    samples, size = case.config.num_samples, case.images.shape[1]
    angle = torch.linspace(-0.3, 0.3, samples)
    matrices = torch.eye(3).repeat(samples, 1, 1, 1)
    matrices[:, 0, 0, 0], matrices[:, 0, 0, 1], matrices[:, 0, 1, 0] = angle.cos(), -angle.sin(), angle.sin()
    matrices[:, 0, 1, 1] = angle.cos()
    drawn = torch_dave.Samples(
        matrices.to(device), torch.randn(samples, 1, 3, size, size, device=device), torch.linspace(0, 0.5, samples, device=device)
    )
    image = torch.randn(1, 3, size, size, device=device)
    calls = {}
    for kind, at_once in (("authors", 1), ("tuned", chunk)):
        model = torch_dave.detach_operators(VisionTransformer(**MODELS[name]), kind).to(device)

        def call(model=model, at_once=at_once):
            torch_dave.explain(model, image, torch.tensor([1], device=device), drawn, chunk=at_once)[1].sum().item()

        calls[f"PyTorch, {kind}, {at_once} at once"] = call
    return calls


def measure_model(size: str, given: argparse.Namespace) -> dict[str, Any]:
    """One model: check, then time."""
    case = Case.build(size, given.samples, None)
    chunks = [int(chunk) for chunk in given.chunks.split(",")] if given.chunks else [None]
    precisions, adjoints = given.precisions.split(","), given.adjoints.split(",")
    classes = sorted({1, *map(int, given.classes.split(","))})
    reference = variant(case, "float32", "scatter", chunks[0], 1)()[0]
    calls, agreement, settings = {}, {}, {}
    for precision in precisions:
        for adjoint in adjoints:
            for chunk in chunks:
                for count in classes if (adjoint, chunk) == (adjoints[-1], chunks[-1]) else classes[:1]:
                    name = f"{precision}, {adjoint}, {chunk or 'default'} at once, {count} classes"
                    calls[name] = variant(case, precision, adjoint, chunk, count)
                    agreement[name] = likeness = pearson(calls[name]()[0, 0], reference[0]).item()
                    settings[name] = {"precision": precision, "adjoint": adjoint, "chunk": chunk, "classes": count}
                    if not likeness >= LIKENESS[precision]:
                        raise Disagreement(f"{name}: its map correlates to {likeness:.4f} with float32's; {LIKENESS[precision]} is asked.")
        calls[f"product {precision}"], operations = product_call(precision)
    if given.torch:
        calls |= torch_calls(case, SIZES[size], chunks[-1] or case.config.chunk_size or 1)
    for call in calls.values():  # compiles
        jax.block_until_ready(call())
    seconds = measure(calls, given.rounds)
    required = products(case.model.forward.config, 1, case.model.forward.config.depth)
    rates = {precision: operations / min(seconds[f"product {precision}"]) for precision in precisions}
    rows = []
    for name, times in seconds.items():
        if name.startswith("product"):
            continue
        each = settings.get(name)
        row: dict[str, Any] = {
            "name": name,
            "ms": 1e3 * min(times) / given.samples,
            "ms_median": 1e3 * statistics.median(times) / given.samples,
        }
        if each:
            row |= {**each, "likeness": agreement[name]}
            if each["classes"] == 1:
                row["utilisation"] = required / (min(times) / given.samples) / rates[each["precision"]]
        rows.append(row)
    for row in rows:
        if row.get("classes", 1) > 1:
            alone = next(r for r in rows if r.get("classes") == 1 and all(r[k] == row[k] for k in ("precision", "adjoint", "chunk")))
            row["times_one"] = row["ms"] / alone["ms"]
    return {"model": SIZES[size], "required_gflop": required / 1e9, "rates_gflops": {k: v / 1e9 for k, v in rates.items()}, "rows": rows}


def table(result: dict[str, Any]) -> str:
    rates = ", ".join(f"{precision} {rate:.0f}" for precision, rate in result["rates_gflops"].items())
    lines = [f"\n{result['model']}: {result['required_gflop']:.2f} GFLOP a sample; large products, GFLOP/s: {rates}", ""]
    lines += ["| variant | ms a sample | median | utilisation | likeness | times one class |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for row in result["rows"]:
        cells = [f"{row['ms']:.3f}", f"{row['ms_median']:.3f}"]
        cells += [f"{row[key]:.4f}" if row.get(key) is not None else "" for key in ("utilisation", "likeness", "times_one")]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", default="small,base", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--precisions", default="float32")
    parser.add_argument("--adjoints", default="gather")
    parser.add_argument("--chunks", help="samples at once (default: explain's own choice)")
    parser.add_argument("--classes", default="1,5", help="of the one image; one class is always timed")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch", action="store_true", help="also the authors' algorithm in PyTorch, and a tuned version")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    before = context("dave-jax", "jax", "jaxlib", "torch", "numpy")
    models = []
    for size in given.models.split(","):
        models.append(measure_model(size, given))
        print(table(models[-1]), flush=True)
    return report("speed", before, given, {"models": models})


if __name__ == "__main__":
    main()
