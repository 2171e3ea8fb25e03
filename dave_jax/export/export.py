"""`export`: the program of an explanation, its weights and its manifest as files, for JAX without dave_jax."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from dave_jax.config import DaveConfig, config_as_json
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.evaluation.settings import as_json
from dave_jax.export.program import PRNG, Program, lower, named_weights
from dave_jax.models.model import Model

SUFFIX = ".stablehlo"
"""Of the program; the manifest ends in `.json` and the weights in `.safetensors`."""


def export(
    model: Model,
    path: str | os.PathLike[str],
    *,
    batch: int | str = 1,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    num_targets: int = 1,
    target_kind: str = "id",
    weights: str = "inside",
    config: DaveConfig | None = None,
    decomposition: str | Decomposition = "effective",
) -> dict[str, Any]:
    """Write the program of `explain` to a file that JAX runs without dave_jax, by `jax.export`.

    The program takes normalised images Float32[b h w 3], targets, and the data of a key UInt32[2], and gives `{"maps": Float32[b k h w],
    "logits": Float32[b classes]}`: the maps that `explain` gives for that key, `jax.random.wrap_key_data(data)`. What `explain` would
    refuse gets a map of NaN.

    Args:
        model: what predicts; also one of `Model.from_function`, as long as its function calls nothing outside JAX.
        path: of the program, ending in `.stablehlo`. The manifest, and weights that lie beside, get its name with `.json` and
            `.safetensors`. The folder is made if it is missing.
        batch: images of a call; or "any", which is compiled for each number of them when it is first called.
        platforms: of `cpu`, `cuda`, `rocm` and `tpu`. Each gets its own precision and warp, as `config` and `explain` decide them.
        num_targets: of each image, k.
        target_kind: `id`, the program takes class ids Int32[b k]; `cotangent`, it takes Float32[b k classes]; `top`, it takes none,
            explains the k most probable classes, and gives these as `targets` too.
        weights: `inside` the program, or `beside` it: the program's first argument is then a dictionary of them, so that other weights of
            the same shapes can be explained too.
        config: settings; default the model's own. They are fixed in the program.
        decomposition: its name or itself.

    Returns:
        The manifest: shapes, dtypes, preprocessing, class names, settings by platform, versions.

    Raises:
        ValueError: arguments out of range; a platform that JAX does not have; a model that cannot be written down.
        FileExistsError: one of the files is there already.

    Example:
        >>> import tempfile, dave_jax as dave
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = dave.export(dave.testing.tiny_model(), f"{folder}/dave.stablehlo", batch=2, platforms=["cpu"])
        >>> manifest["inputs"]["images"], manifest["outputs"]["maps"]["shape"]
        ({'shape': [2, 16, 16, 3], 'dtype': 'float32'}, [2, 1, 16, 16])
    """
    if weights not in ("inside", "beside"):
        raise ValueError(f"weights must be 'inside' or 'beside'; got {weights!r}.")
    files = output_files(path, weights)
    rules = resolve(decomposition)
    program = lower(
        model,
        rules,
        config=model.config if config is None else config,
        batch=batch,
        platforms=platforms,
        num_targets=num_targets,
        target_kind=target_kind,
        inside=weights == "inside",
    )
    content = bytes(program.exported.serialize())
    arrays = {} if weights == "inside" else {name: np.asarray(leaf) for name, leaf in named_weights(model).items()}
    manifest = _manifest(model, rules, program, files, arrays, hashlib.sha256(content).hexdigest())
    writers: dict[str, Callable[[Path], Any]] = {
        "weights": lambda file: save_file(arrays, file),
        "manifest": lambda file: file.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8"),
        "program": lambda file: file.write_bytes(content),
    }
    _write({files[kind]: writer for kind, writer in writers.items() if kind in files})
    return manifest


def output_files(path: str | os.PathLike[str], weights: str) -> dict[str, Path]:
    """The files that `export` writes: `program`, `manifest` and, beside it, `weights`.

    Raises:
        ValueError: another suffix.
        FileExistsError: one of them is there.
    """
    program = Path(path)
    if program.suffix != SUFFIX:
        raise ValueError(f"The program's file must end in {SUFFIX}, as dave{SUFFIX}; got {str(program)!r}.")
    files = {"program": program, "manifest": program.with_suffix(".json")}
    files |= {"weights": program.with_suffix(".safetensors")} if weights == "beside" else {}
    there = [str(file) for file in files.values() if file.exists() or file.is_symlink()]
    if there:
        raise FileExistsError(f"An export writes new files; there is already {', '.join(there)}. Choose another name, or delete it.")
    return files


def _manifest(
    model: Model, rules: Decomposition, program: Program, files: dict[str, Path], arrays: dict[str, np.ndarray], digest: str
) -> dict[str, Any]:
    exported = program.exported
    weights = None
    if program.names:
        entries = [{"name": name, "shape": list(arrays[name].shape), "dtype": str(arrays[name].dtype)} for name in program.names]
        weights = {"file": files["weights"].name, "arrays": entries}
    return {
        "format": "dave_jax export 1",
        "program": {"file": files["program"].name, "sha256": digest},
        "weights": weights,
        "inputs": {name: _shape(like) for name, like in program.inputs.items()},
        "outputs": {name: _shape(like) for name, like in program.outputs.items()},
        "key": f"the key data of {PRNG}: [0, seed] for jax.random.key(seed)",
        "model": {
            "name": model.name,
            "source": model.source,
            "class_names": None if model.class_names is None else list(model.class_names),
        },
        "preprocessing": as_json(model.preprocessing),
        "decomposition": rules.name,
        "settings": {name: config_as_json(config) for name, config in program.configs.items()},
        "platforms": list(exported.platforms),
        "calling_convention_version": exported.calling_convention_version,
        "versions": {name: version(name) for name in ("dave-jax", "jax", "jaxlib")},
    }


def _shape(like: Any) -> dict[str, Any]:
    return {"shape": [edge if isinstance(edge, int) else "any" for edge in like.shape], "dtype": str(like.dtype)}


def _write(writers: dict[Path, Callable[[Path], Any]]) -> None:
    """Each file appears whole, the program last; none where one of them cannot be written."""
    temporary = {file: file.with_name(f".{uuid.uuid4().hex}.tmp") for file in writers}
    try:
        for file, writer in writers.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            writer(temporary[file])
        for file in writers:
            temporary[file].replace(file)
    finally:
        for file in temporary.values():
            file.unlink(missing_ok=True)
