"""Commands on models: `models`, `export`."""

import argparse
from pathlib import Path
from typing import Any

from dave_jax.arguments.common import add_command, add_model, add_prompts, add_samples, names

_EXPORT = """\
Writes the program of explain, for normalised images, targets and a key, to a file that JAX runs without dave_jax, and beside it a manifest
(.json): shapes, preprocessing, class names, settings. docs/export.md shows how to run it.

examples:
  dave-jax export --batch 8 --samples 16 -o dave.stablehlo
  dave-jax export --model deit3_base_patch16_224.fb_in1k --batch any --platforms cuda,tpu --weights beside -o deit3.stablehlo
"""


def add_models(commands: Any) -> None:
    """`dave-jax models`."""
    models = add_command(commands, "models", "list the models of timm that load by name")
    models.add_argument("--filter", metavar="PATTERN", help="part of a name, or a pattern with * and ?")
    models.add_argument("--json", action="store_true", help="print one JSON document")


def add_export(commands: Any) -> None:
    """`dave-jax export`."""
    export = add_command(commands, "export", "write the program of explain to a file that JAX alone runs", _EXPORT, "export_command")
    add_model(export, seed=False)
    add_prompts(export)
    export.add_argument("--batch", type=_batch_size, default=1, metavar="B", help="images of a call, or any (default: %(default)s)")
    export.add_argument(
        "--platforms", type=names, default=["cpu", "cuda", "tpu"], metavar="A,B", help="of cpu, cuda, rocm, tpu (default: cpu,cuda,tpu)"
    )
    export.add_argument("--targets", type=int, default=1, metavar="K", help="of each image (default: %(default)s)")
    export.add_argument(
        "--target-kind", choices=("id", "cotangent", "top"), default="id", help="what the program takes; top: none (default: %(default)s)"
    )
    export.add_argument("--weights", choices=("inside", "beside"), default="inside", help="where they go (default: %(default)s)")
    add_samples(export)
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the program, FILE.stablehlo")


def _batch_size(text: str) -> int | str:
    if text != "any" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a batch is a number of images, or any; got {text!r}")
    return text if text == "any" else int(text)
