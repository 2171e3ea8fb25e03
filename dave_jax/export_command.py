"""The command `dave-jax export`: the program of an explanation as a file."""

import dataclasses
import json
from argparse import Namespace
from typing import Any

from dave_jax.commands import load_model
from dave_jax.export.export import export as write_program
from dave_jax.export.export import output_files
from dave_jax.export.program import check


def export(arguments: Namespace) -> int:
    """Write the program and say what it takes."""
    files = output_files(arguments.output, arguments.weights)  # before a model is downloaded for nothing
    check(arguments.batch, arguments.platforms, arguments.targets, arguments.target_kind)
    model = load_model(arguments)
    config = model.config if arguments.samples is None else model.config.with_samples(arguments.samples)
    changes: dict[str, Any] = {"chunk_size": arguments.chunk, "noise_alpha": arguments.noise_alpha}
    manifest = write_program(
        model,
        arguments.output,
        batch=arguments.batch,
        platforms=arguments.platforms,
        num_targets=arguments.targets,
        target_kind=arguments.target_kind,
        weights=arguments.weights,
        config=dataclasses.replace(config, **{name: value for name, value in changes.items() if value is not None}),
    )
    if arguments.json:
        print(json.dumps({"files": {kind: str(file) for kind, file in files.items()}} | manifest, indent=2))
        return 0
    for name, entry in (*manifest["inputs"].items(), *manifest["outputs"].items()):
        print(f"{name:8} {entry['dtype']} {entry['shape']}".replace("'any'", "any"))
    print("\n".join(f"wrote {file}  {file.stat().st_size:,} bytes" for file in files.values()))
    return 0
