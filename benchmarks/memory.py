"""Memory of `explain` against the number of samples and the image's size, with and without a pilot, by the compiler's count.

    python benchmarks/memory.py --output benchmarks/results

Each program is compiled and not run: arguments (weights, image), results, and what lies between, in bytes. Before that, the maps of a small
network must be the same, to rounding, with a pilot of all samples and without one.
"""

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from context import context, report
from samplers import with_pilot

import dave_jax as dave
from convert_weights.timm import config_from_options
from dave_jax.attribution.explain import _explain
from dave_jax.attribution.fit import fitted
from dave_jax.effective.decomposition import effective
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import init_params

SIZES = {"small": {"embed_dim": 384, "num_heads": 6}, "test": {"embed_dim": 32, "num_heads": 2, "depth": 1}}


def check() -> None:
    """Raise unless `explain` gives the average of its samples, whether it holds all of them or a pilot."""
    model = dave.testing.tiny_model()
    images = jax.random.normal(jax.random.key(0), (1, *model.preprocessing.image_size, 3))
    explain = functools.partial(dave.explain, model, images, [0], key=jax.random.key(1), raw=True)
    config = dataclasses.replace(model.config, num_samples=8)
    _, samples = explain(config=config, return_samples=True)
    for pilot in (8, 4):
        raw = explain(config=dataclasses.replace(config, mad_pilot=pilot))[0]
        expected = with_pilot("mad_mean", pilot, None, samples[0], config.mad_threshold)
        if not float(jnp.abs(raw - expected).max()) < 1e-5 * float(jnp.abs(expected).max()):
            raise RuntimeError(f"explain with mad_pilot={pilot} must give that average of its samples; it does not. Nothing is measured.")


def bytes_of(model: dave.Model, config: dave.DaveConfig) -> int:
    """What the compiled program for one image and one target holds."""
    image = jax.ShapeDtypeStruct((*model.preprocessing.image_size, 3), jnp.float32)
    config = fitted(config, model, effective, image, 1)
    one = (jax.ShapeDtypeStruct((1, *image.shape), jnp.float32), jax.ShapeDtypeStruct((1, 1, 1000), jnp.float32))
    rest = (jax.random.key(0), jax.ShapeDtypeStruct((1,), jnp.uint32), config, False, False, None)
    found = _explain.lower(model.forward, effective, model.params, *one, *rest).compile().memory_analysis()
    return found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model-size", choices=list(SIZES), default="small")
    parser.add_argument("--image-sizes", default="224,448")
    parser.add_argument("--samples", default="50,200,1000")
    parser.add_argument("--pilot", type=int, default=64)
    parser.add_argument("--chunk", type=int, default=2)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    before = context("dave-jax", "jax", "jaxlib")
    check()
    rows = []
    for size in map(int, given.image_sizes.split(",")):
        config = config_from_options(SIZES[given.model_size] | {"patch_size": 16, "img_size": size})
        params = jax.eval_shape(lambda config=config: init_params(jax.random.key(0), config))
        model = dave.Model(params, ViT(config), preprocessing=dave.Preprocessing(config.image_size))
        for samples in map(int, given.samples.split(",")):
            for pilot in sorted({min(given.pilot, samples), samples}):
                settings = dave.DaveConfig(num_samples=samples, noise_alpha=0.5, chunk_size=given.chunk, mad_pilot=pilot)
                rows.append({"image_size": size, "samples": samples, "pilot": pilot, "bytes": bytes_of(model, settings)})
                print(f"{size} pixels, {samples} samples, {pilot} of them held: {rows[-1]['bytes'] / 2**20:.0f} MiB", flush=True)
    return report("memory", before, given, {"rows": rows})


if __name__ == "__main__":
    main()
