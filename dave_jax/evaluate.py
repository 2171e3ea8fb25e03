"""The command `dave-jax evaluate`: from a data set to scores, tables and pictures."""

import dataclasses
import importlib.util
import json
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from dave_jax.attribution.methods import lookup, select
from dave_jax.commands import load_model
from dave_jax.evaluation.data import read
from dave_jax.evaluation.folders import find
from dave_jax.evaluation.metric import Metric
from dave_jax.evaluation.metrics import select_metrics
from dave_jax.evaluation.protocol import Protocol, protocols
from dave_jax.evaluation.run import run
from dave_jax.evaluation.settings import Settings
from dave_jax.evaluation.summary import seconds_per_map
from dave_jax.evaluation.table import table
from dave_jax.pages.scores import write_scores


def evaluate(arguments: Namespace) -> int:
    """Explain, score, and write what came out."""
    for path in arguments.extend:
        _extend(path)
    protocol = lookup("protocol", arguments.protocol, protocols)
    methods = select(arguments.methods or protocol.methods, protocol.num_samples if arguments.samples is None else arguments.samples)
    metrics = _metrics(arguments.metrics, protocol)
    settings = _settings(arguments, protocol)
    find(arguments.data)  # before a model is downloaded for nothing
    model = load_model(arguments)
    if arguments.noise_alpha is not None:
        model = dataclasses.replace(model, config=dataclasses.replace(model.config, noise_alpha=arguments.noise_alpha))
    photographs = read(arguments.data, model, label_field=arguments.label_field, skip_unknown=arguments.skip_unknown)
    run(model, photographs, methods, metrics, arguments.output, settings, progress=sys.stderr.isatty() and not arguments.json)
    summary = write_scores(arguments.output, model, photographs, metrics, settings.seed)
    seconds = seconds_per_map(arguments.output)
    if arguments.json:
        print(json.dumps({"folder": str(arguments.output), "seconds_per_map": seconds} | summary, indent=2))
    else:
        print(f"{table(summary, metrics)}\nwrote {arguments.output / 'index.html'}")
    return 0


def _extend(path: Path) -> None:
    """Run a file, which enters what is new in the registries."""
    if not path.is_file() or path.suffix != ".py":
        raise ValueError(f"--extend takes a Python file; there is none at {str(path)!r}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # a .py file has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # classes look their module up
    spec.loader.exec_module(module)


def _metrics(names: list[str] | None, protocol: Protocol) -> dict[str, Metric]:
    """The protocol's, or those named, as the protocol sets them where it does."""
    if names is None:
        return dict(protocol.metrics)
    chosen: Mapping[str, Metric] = select_metrics(names)
    return {name: protocol.metrics.get(name, metric) for name, metric in chosen.items()}


def _settings(arguments: Namespace, protocol: Protocol) -> Settings:
    given = {
        "max_images": arguments.max_images,
        "num_mosaics": arguments.mosaics,
        "min_confidence": arguments.min_confidence,
        "seed": arguments.seed,
    }
    return dataclasses.replace(protocol.settings, **{name: value for name, value in given.items() if value is not None})
