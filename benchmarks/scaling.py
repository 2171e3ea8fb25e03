"""What does spreading `explain` over devices cost? Bytes between devices in the compiled program, and what they predict elsewhere.

    python benchmarks/scaling.py --output benchmarks/results

On eight devices that the CPU pretends to be: first the maps must be those of one device; then each program's collectives are read from the
compiled text. Spreading images needs none. Spreading the samples of an image sends each device's samples to the others once, by pixels, for
MAD's bounds, and sums the attributions. The prediction is compute / (compute + transfer) at published link speeds, nothing overlapped. The
time of a sample is an assumption, the same for every machine: `--seconds`, of a ViT-S/16 on an H100 about what speed.py measures there.
"""

import argparse
import os
import re
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np
from context import context, report

import dave_jax as dave
from convert_weights.timm import config_from_options
from dave_jax.attribution.explain import _explain
from dave_jax.attribution.fit import fitted
from dave_jax.effective.decomposition import effective
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import init_params

MODEL = {"patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2, "num_classes": 10}
"""A small network: what is sent depends on the image's size and the number of samples alone."""

MACHINES = {
    "8 GPUs with NVLink 4 (H100)": {"devices": 8, "bytes_per_second": 450e9},
    "TPU v5e, one host of 8": {"devices": 8, "bytes_per_second": 200e9},
    "TPU v5e-256, 32 groups of 8": {"devices": 256, "bytes_per_second": 200e9},
}
"""Published bytes per second that a device can send: NVLink 4 450 GB/s each way; v5e 1,600 Gbit/s a chip. Samples are spread
within a group of eight, images over the groups."""

_SIZES = {"f32": 4, "bf16": 2, "u32": 4, "s32": 4, "pred": 1}
_COLLECTIVE = re.compile(r"= (.*?) (all-to-all|all-gather|all-reduce|reduce-scatter|collective-permute)\(")


class Disagreement(RuntimeError):
    """Several devices do not give the map of one: nothing is reported."""


def sent(text: str, devices: int) -> dict[str, float]:
    """Bytes that a device sends for an image, by kind of collective; the loop over images is counted once."""
    found: dict[str, float] = {}
    for shapes, kind in _COLLECTIVE.findall(text):
        size = sum(
            _SIZES[kind_] * int(np.prod([int(edge) for edge in edges.split(",") if edge], dtype=np.int64))
            for kind_, edges in re.findall(r"(f32|bf16|u32|s32|pred)\[([\d,]*)\]", shapes)
        )
        times = 2.0 if kind == "all-reduce" else 1.0
        found[kind] = found.get(kind, 0.0) + times * size * (devices - 1) / devices
    return found


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.25e-3, help="of one sample on one device")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    before = context("dave-jax", "jax", "jaxlib")
    config = config_from_options(MODEL | {"img_size": given.image_size})
    model = dave.Model(init_params(jax.random.key(0), config), ViT(config), preprocessing=dave.Preprocessing(config.image_size))
    images = jax.random.normal(jax.random.key(1), (8, *config.image_size, 3))
    targets, key = jnp.arange(8), jax.random.key(2)
    rows = []
    for aggregation in ("mad_mean", "streaming_mean"):
        settings = dave.DaveConfig(num_samples=given.samples, noise_alpha=0.5, aggregation=aggregation, chunk_size=given.samples // 8)
        settings = fitted(settings, model, effective, jax.ShapeDtypeStruct(images.shape[1:], images.dtype), 1, 8)
        alone = dave.explain(model, images, targets, key=key, config=settings, raw=True)
        for axes, shape in ((("data",), (8,)), (("samples",), (8,)), (("data", "samples"), (2, 4))):
            mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(shape), axes)
            spread = dave.explain(model, images, targets, key=key, config=settings, raw=True, mesh=mesh)
            differing = float(jnp.mean(~(jnp.abs(alone - spread) <= 1e-5 * jnp.abs(alone).max())))  # NaN differs
            if differing > 1e-3:
                raise Disagreement(f"{aggregation} over {axes}: {differing:.2%} of the values differ by more than 1e-5.")
            share = mesh.shape.get("samples", mesh.size)
            cotangents, ids = jax.nn.one_hot(targets, 10)[:, None], jnp.arange(8)
            given_ = (model.forward, effective, model.params, images, cotangents, key, ids, settings, True, False, mesh)
            bytes_ = sent(_explain.lower(*given_).compile().as_text(), share)
            rows.append({"aggregation": aggregation, "mesh": dict(mesh.shape), "differing": differing, "bytes_per_image": bytes_})
            shown = ", ".join(f"{kind} {size / 2**20:.2f} MiB" for kind, size in bytes_.items()) or "nothing"
            print(
                f"{aggregation}, {dict(mesh.shape)}: a device sends for each image {shown}; {differing:.1e} of the values differ by > 1e-5"
            )
    predictions = []
    print(f"\n{given.samples} samples of an image of {given.image_size} pixels, {1e3 * given.seconds:.3f} ms each")
    for row in rows:
        if row["mesh"].get("samples") != 8:
            continue
        for name, machine in MACHINES.items():
            compute = given.samples * given.seconds / 8
            transfer = sum(row["bytes_per_image"].values()) / machine["bytes_per_second"]
            predictions.append({"aggregation": row["aggregation"], "machine": name, "efficiency": compute / (compute + transfer)})
            print(f"{row['aggregation']}, {name}: {predictions[-1]['efficiency']:.3f} of {machine['devices']} times one device")
    return report("scaling", before, given, {"rows": rows, "machines": MACHINES, "predictions": predictions})


if __name__ == "__main__":
    main()
