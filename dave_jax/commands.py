"""What each command of `dave_jax.cli` does: from parsed arguments to files, printed text and an exit code."""

import dataclasses
import difflib
import json
import re
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

import dave_jax as dave
from dave_jax.attribution.dave import Dave
from dave_jax.attribution.method import Method
from dave_jax.attribution.methods import available, lookup
from dave_jax.cli import fail
from dave_jax.config import DaveConfig, config_as_json
from dave_jax.evaluation.settings import method_as_json
from dave_jax.models.model import Model
from dave_jax.models.preprocess import load_photo
from dave_jax.models.presets import preset
from dave_jax.plot import curve
from dave_jax.results import as_text, describe, output_paths, write


def explain(arguments: Namespace) -> int:
    """Write and print the explanation of each photograph."""
    failed = _missing(arguments.photos)
    if arguments.output.exists() and not arguments.output.is_dir():
        raise ValueError(f"-o must name a folder; {str(arguments.output)!r} is a file.")
    method = lookup("method", arguments.method, available())  # before a model is downloaded for nothing
    model = load_model(arguments)
    method = configure(method, model.config, arguments)
    provenance = provenance_of(model, arguments.method, method, arguments.seed)
    outputs = output_paths(arguments.photos, arguments.output, f".{arguments.format}")
    quiet = len(arguments.photos) < 2 or arguments.json or not sys.stderr.isatty()
    results = []
    for photo, paths in tqdm(list(zip(arguments.photos, outputs, strict=True)), unit="photo", disable=quiet):
        if photo in failed:
            continue
        try:
            images = model.preprocess(photo)
        except (ValueError, OSError) as error:
            failed[photo] = error
            continue
        logits = np.asarray(model.logits(images))[0]
        targets = choose_targets(model, logits, arguments.target or [str(i) for i in range(len(arguments.prompt or ()))] or ["top-1"])
        maps = method(model, images, np.array([targets]), key=jax.random.key(arguments.seed))
        result = describe(model, photo, logits, targets)
        write(paths, np.asarray(maps)[0], model.preprocessing.denormalise(images)[0], result, provenance)
        result["files"] = {kind: str(path) for kind, path in paths.items()}
        results.append(result)
        if not arguments.json:
            tqdm.write(as_text(result), file=sys.stdout)
    if arguments.json:
        print(json.dumps(provenance | {"photos": results, "failed": _messages(failed)}, indent=2))
    return _report(failed, len(results))


def models(arguments: Namespace) -> int:
    """Print the names that load, with the authors' noise levels."""
    names = dave.known_models(arguments.filter)
    if not names:
        near = difflib.get_close_matches(arguments.filter, dave.known_models(), n=50, cutoff=0.4)
        near = sorted(near, key=lambda name: name[:3] != arguments.filter[:3])[:3]  # first those of the same family
        hint = f"Near names: {', '.join(near)}." if near else "Without --filter all are listed."
        raise ValueError(f"No model of timm fits {arguments.filter!r}. {hint}")
    presets = {name: preset(name.partition(".")[0]) for name in names}
    levels = {name: None if config is None else float(config.noise_alpha) for name, config in presets.items()}
    if arguments.json:
        print(json.dumps([{"name": name, "noise_alpha": level} for name, level in levels.items()], indent=2))
    else:
        print("\n".join(name if level is None else f"{name}  noise_alpha {level:g}, the authors' preset" for name, level in levels.items()))
    return 0


def calibrate(arguments: Namespace) -> int:
    """Draw and print the calibration curve of a model."""
    failed = _missing(arguments.photos)
    if arguments.output.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"-o must name an image file such as calibration.png; got {str(arguments.output)!r}.")
    model = load_model(arguments)
    images = []
    for photo in arguments.photos:
        try:
            images += [] if photo in failed else [model.preprocess(photo)]
        except (ValueError, OSError) as error:
            failed[photo] = error
    if not images:
        return _report(failed, 0)
    key = jax.random.key(arguments.seed)
    found = dave.calibrate(model, jax.numpy.concatenate(images), key=key, tolerance=arguments.tolerance)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    curve(found.levels, found.change, found.noise_alpha, tolerance=found.tolerance, title=model.name).save(arguments.output)
    numbers = {field.name: getattr(found, field.name) for field in dataclasses.fields(found) if field.name != "config"}
    numbers = {name: np.asarray(value, float).tolist() for name, value in numbers.items()} | {"config": config_as_json(found.config)}
    if arguments.json:
        written = {"photos": len(images), "seed": arguments.seed, "file": str(arguments.output), "failed": _messages(failed)}
        print(json.dumps(_provenance(model) | numbers | written, indent=2))
    else:
        print(f"{model.name}: up to noise_alpha {found.noise_alpha:.3g} the target's probability changes by {found.tolerance:g} or less")
        print("\n".join(f"  level {level:.3f}  change {change:.4f}" for level, change in zip(found.levels, found.change, strict=True)))
        print(f"  the transforms, to {found.strength:.0%} of their ranges\n  wrote {arguments.output}")
    return _report(failed, len(images))


def load_model(arguments: Namespace) -> Model:
    """The model that the arguments name; one of images and text as the classifier that its prompts make.

    Raises:
        ValueError: prompts for a model of classes, or none for one of images and text.
    """
    model = dave.load(arguments.model, image_size=arguments.image_size)
    if isinstance(model, dave.ImageText):
        if not arguments.prompt:
            raise ValueError(
                f"{model.name!r} is a model of images and text, which needs sentences. "
                'Add some: --prompt "a photo of a cat" --prompt "a photo of a dog".'
            )
        return model.prompts(arguments.prompt, templates=arguments.template or ["{}"])
    if arguments.prompt or arguments.template:
        raise ValueError(f"--prompt and --template are for models of images and text; {model.name!r} has classes. Use --target.")
    return model


def choose_targets(model: Model, logits: np.ndarray, wanted: Sequence[str]) -> list[int]:
    """Class ids, each once, from ids, names and `top-K`.

    Raises:
        ValueError: a name that the model does not have, or a number that is too large.
    """
    targets = []
    for want in wanted:
        if match := re.fullmatch(r"top-(\d+)", want):
            if not 1 <= int(match[1]) <= len(logits):
                raise ValueError(f"top-K needs K from 1 to {len(logits)}, the number of the model's classes; got {want!r}.")
            targets += np.argsort(-logits, kind="stable")[: int(match[1])].tolist()
        else:
            targets.append(model.class_index(want))
        if targets[-1] >= len(logits):
            raise ValueError(f"A class id lies in 0 to {len(logits) - 1}, for the model has {len(logits)} classes; got {want}.")
    return list(dict.fromkeys(targets))


def _missing(photos: Sequence[str]) -> dict[str, Exception]:
    """The names that are no files, before anything slow happens. Raises if none is one."""
    failed: dict[str, Exception] = {}
    for photo in photos:
        if not Path(photo).is_file():
            try:
                load_photo(photo)
            except (ValueError, OSError) as error:
                failed[photo] = error
    if len(failed) == len(set(photos)):
        raise ValueError(" ".join(str(error) for error in failed.values()))
    return failed


def configure(method: Method, config: DaveConfig, arguments: Namespace) -> Method:
    """The method with the settings of the command line; DAVE's others are its own or else the model's `config`.

    Raises:
        ValueError: a setting that the method does not have.
    """
    given = {"samples": arguments.samples, "chunk": arguments.chunk, "noise_alpha": arguments.noise_alpha}
    fields = {"samples": "num_samples", "chunk": "chunk_size", "noise_alpha": "noise_alpha"}
    changes: dict[str, Any] = {fields[option]: value for option, value in given.items() if value is not None}
    if isinstance(method, Dave):
        config = method.config or config
        config = config.with_samples(changes.pop("num_samples", method.num_samples or config.num_samples))
        return dataclasses.replace(method, config=dataclasses.replace(config, **changes), num_samples=None)
    for option, value in given.items():
        if value is not None and not hasattr(method, fields[option]):
            raise ValueError(f"--{option.replace('_', '-')} is no setting of the method {arguments.method!r}. Leave it out.")
    return dataclasses.replace(method, **changes)  # pyright: ignore[reportArgumentType] by `settings`


def provenance_of(model: Model, name: str, method: Method, seed: int) -> dict[str, Any]:
    """What a map depends on besides its photograph and its target, for JSON: `name` is the method's."""
    return _provenance(model) | {"image_size": list(model.preprocessing.image_size), "method": name, "seed": seed} | method_as_json(method)


def _provenance(model: Model) -> dict[str, Any]:
    return {"dave_jax": dave.__version__, "model": model.name, "source": model.source}


def _messages(failed: Mapping[str, Exception]) -> list[dict[str, str]]:
    return [{"photo": photo, "error": str(error)} for photo, error in failed.items()]


def _report(failed: Mapping[str, Exception], done: int) -> int:
    """A line for each photograph that failed, and the exit code."""
    for error in failed.values():
        fail(error, 1)
    return 0 if not failed else 1 if done else 2
