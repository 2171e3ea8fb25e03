"""The command `dave-jax probe`: from labelled photographs to a classifier on a frozen network."""

import dataclasses
import json
import sys
from argparse import Namespace

import jax
import numpy as np

import dave_jax as dave
from dave_jax.evaluation.data import Photograph, read
from dave_jax.evaluation.folders import class_names, find
from dave_jax.models.heads import with_head, without_head
from dave_jax.models.model import Model, count_classes
from dave_jax.models.store import check_folder
from dave_jax.training.linear_probe import features, linear_probe


def probe(arguments: Namespace) -> int:
    """Fit a head, measure it, and write the model."""
    if arguments.output.exists() and not arguments.output.is_dir():
        raise ValueError(f"-o must name a folder; {str(arguments.output)!r} is a file.")
    names = class_names(arguments.data, label_field=arguments.label_field)
    if arguments.validation is not None:
        find(arguments.validation)  # before a model is downloaded for nothing
    model = dave.load(arguments.model, image_size=arguments.image_size)
    unfitted = _unfitted(model, names)
    check_folder(arguments.output)  # all that can be wrong with what is given, before the slow part
    photographs = read(arguments.data, unfitted, label_field=arguments.label_field)
    validation = [] if arguments.validation is None else read(arguments.validation, unfitted, label_field=arguments.label_field)
    progress = sys.stderr.isatty() and not arguments.json
    found = linear_probe(
        model,
        (photograph.photo() for photograph in photographs),
        [photograph.target for photograph in photographs],
        names,
        key=jax.random.key(arguments.seed),
        pooling=arguments.pooling,
        pooled_blocks=arguments.pooled_blocks,
        epochs=arguments.epochs,
        progress=progress,
    )
    result = {field.name: getattr(found, field.name) for field in dataclasses.fields(found) if field.name not in ("model", "accuracies")}
    result |= {"accuracies": found.accuracies.tolist(), "photographs": len(photographs), "classes": names, "pooling": arguments.pooling}
    result["pooled_blocks"] = arguments.pooled_blocks
    if validation:
        result["validation"] = {"photographs": len(validation), "accuracy": _accuracy(found.model, validation, progress)}
    fitted = dataclasses.replace(found.model, source=f"{model.source}, probe on {len(photographs)} photographs, seed {arguments.seed}")
    result["file"] = str(dave.save(fitted, arguments.output))
    (arguments.output / "probe.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(result, indent=2))
        return 0
    print(f"{len(photographs) - found.held_out} photographs of {len(names)} classes; best of {found.accuracies.size} heads:")
    print(f"  learning rate {found.learning_rate:g}, weight decay {found.weight_decay:g}")
    print(f"  accuracy {found.accuracy:.2%} on the {found.held_out} photographs held out, which chose it")
    if "validation" in result:
        print("  accuracy {accuracy:.2%} on {photographs} other photographs".format(**result["validation"]))
    print(f"wrote {result['file']}")
    return 0


def _unfitted(model: Model, names: tuple[str, ...]) -> Model:
    """The model with as many classes as the data, for the names of these."""
    network = without_head(model)
    kernel = np.zeros((count_classes(network), len(names)), np.float32)
    return with_head(network, kernel, np.zeros(len(names), np.float32), names)


def _accuracy(model: Model, photographs: list[Photograph], progress: bool) -> float:
    logits = features(model, (photograph.photo() for photograph in photographs), progress=progress, total=len(photographs))
    return float(np.mean(logits.argmax(axis=1) == [photograph.target for photograph in photographs]))
