"""dave_jax's own format: one safetensors file that holds a model's parameters and, in its metadata, everything else.

The keys are the parameters' paths (`blocks/mlp/fc1/kernel`). A quantised kernel is stored as int8 under its path, with a float32 scale
for each block and output channel under `<path>.scale`: kernel = scale * integers; what is no kernel is then stored as float16. The
metadata has one entry, `dave_jax`, so that the same model always makes the same bytes. A model of images and text has its vocabulary in a
file beside, `tokenizer.json`.
"""

import dataclasses
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from convert_weights.table import Entry, convert, flatten
from dave_jax.config import DaveConfig, config_as_json
from dave_jax.models.checkpoint import Checkpoint
from dave_jax.models.families import FAMILIES, family_of
from dave_jax.models.files import WEIGHTS, telling
from dave_jax.models.image_text import ImageText, ImageTextConfig
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.quantised import SCALE, Dequantised, quantised
from dave_jax.models.resize import resampled_at
from dave_jax.models.rotary import Rotary
from dave_jax.models.swin_config import SwinConfig
from dave_jax.models.text_config import TextConfig
from dave_jax.models.tokenizer import Tokenizer
from dave_jax.models.vit_config import ViTConfig

_ENTRY, _VERSION = "dave_jax", 1
_HALF = jnp.bfloat16
TOKENIZER = "tokenizer.json"
"""The file of a text tower's vocabulary."""


def is_stored(checkpoint: Checkpoint) -> bool:
    """Whether `save` wrote it."""
    return _ENTRY in checkpoint.metadata


def has_tokenizer(checkpoint: Checkpoint) -> bool:
    """Whether `save` wrote a tokenizer beside it."""
    return '"tokenizer": {' in checkpoint.metadata[_ENTRY]


def save(model: Model, directory: str | os.PathLike, *, quantise: bool = False) -> Path:
    """Write a model to `directory/model.safetensors`; what `read` gives back is equal.

    The file appears whole or not at all.

    Args:
        model: with a network of dave_jax for its forward pass: a `ViT`, `Swin`, `ResNet`, `ConvNeXt` or `BcosViT`, or the two of an
            `ImageText`.
        directory: made if it is missing.
        quantise: store kernels as 8-bit integers, a quarter of the size, and the rest in half precision. An element of a kernel moves by at
            most half a step, which is 1/127 of its output channel's largest element.

    Returns:
        The file.

    Raises:
        TypeError: the model's forward pass is another function.
        ValueError: the folder holds a checkpoint of another format, which would be lost.

    Example:
        >>> import tempfile
        >>> from dave_jax.models.vit import ViT
        >>> from dave_jax.models.vit_config import init_params
        >>> vit = ViT(ViTConfig(image_size=(8, 8), patch_size=(4, 4), width=8, depth=1, num_heads=2, mlp_width=8, num_classes=3))
        >>> model = Model(init_params(jax.random.key(0), vit.config), vit, preprocessing=Preprocessing(image_size=(8, 8)), name="tiny")
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     path = save(model, directory)
        ...     read(directory).name
        'tiny'
    """
    family = family_of(model.forward)
    if family is None:
        known = [known.network.__name__ for known in FAMILIES.values()]
        raise TypeError(f"The format holds the networks of dave_jax, {known}; got a model whose forward is {type(model.forward).__name__}.")
    check_folder(directory)
    path = Path(directory) / WEIGHTS
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    for key, leaf in flatten(model.params).items():
        array = np.asarray(leaf, leaf.dtype if leaf.dtype == _HALF and not quantise else np.float32)
        if quantise and key.endswith("/kernel"):
            arrays[key], arrays[key + SCALE] = quantised(array)
        else:
            arrays[key] = array.astype(np.float16) if quantise else array
    temporary, words = (path.with_name(f".{uuid.uuid4().hex}.tmp") for _ in range(2))
    try:
        save_file(arrays, temporary, metadata={_ENTRY: json.dumps(_description(model, family), sort_keys=True)})
        if isinstance(model, ImageText):
            assert model.tokenizer is not None  # an ImageText has one
            words.write_text(model.tokenizer.source, encoding="utf-8")
        temporary.replace(path)
        if words.exists():
            words.replace(path.with_name(TOKENIZER))
    finally:
        temporary.unlink(missing_ok=True)
        words.unlink(missing_ok=True)
    return path


def check_folder(directory: str | os.PathLike) -> None:
    """Raise if what `save` writes would take the place of what it did not write.

    Raises:
        ValueError: the folder holds a checkpoint of another format, or a tokenizer without one.
    """
    path = Path(directory) / WEIGHTS
    if path.exists() and not is_stored(Checkpoint([path])):
        raise ValueError(f"{str(path)!r} is a checkpoint of another format, and would be overwritten. Choose another folder.")
    words = path.with_name(TOKENIZER)
    if words.exists() and not path.exists():
        raise ValueError(f"{str(words)!r} is of another origin, and would be overwritten. Choose another folder.")


def read(
    location: str | os.PathLike, *, image_size: tuple[int, int] | None = None, dtype: str | None = None, place: str | None = None
) -> Model:
    """Read what `save` wrote: a folder, or its file.

    Args:
        location: of the folder or file.
        image_size: another height and width than the stored one; a position embedding is resampled as its source does it.
        dtype: of the parameters, `float32` or `bfloat16`; None takes that of the model that was saved.
        place: what to call the location in the model's `source`; None takes its path.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is cut off, of another format or version, its arrays do not fit its description, or the patches do not tile the size.
    """
    path = Path(location) / WEIGHTS if Path(location).is_dir() else Path(location)
    checkpoint = Checkpoint([path])
    if not is_stored(checkpoint):
        raise ValueError(
            f"{str(path)!r} does not come from dave_jax (its metadata lack {_ENTRY!r}). Use dave_jax.load, which reads timm's layout."
        )
    try:
        stored = json.loads(checkpoint.metadata[_ENTRY])
        if stored["version"] != _VERSION:
            raise ValueError(f"version {stored['version']}, where this dave_jax reads {_VERSION}; update it")
        family = next((name for name in FAMILIES if name in stored), None)
        if family is None:
            raise ValueError(f"no network of {list(FAMILIES)}; update it")
        config, preprocessing = _config(family, stored[family]), Preprocessing(**_tuples(stored["preprocessing"]))
        dave_config, names = DaveConfig(**stored["dave_config"]), stored["class_names"]
        dtype = dtype or ("bfloat16" if stored.get("dtype") == "bfloat16" else "float32")
        name, source = str(stored["name"]), str(stored["source"])
        if not (names is None or (isinstance(names, list) and all(isinstance(label, str) for label in names))):
            raise TypeError(f"class_names must be a list of names, or null; got {names!r}")
        if names is not None and len(names) != getattr(config, "num_classes", len(names)):
            raise ValueError(f"{len(names)} names for {config.num_classes} classes")
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"The metadata of {str(path)!r} must describe a model of dave_jax; they do not ({error}).") from error
    kind, fields = Model, {}
    with telling(repr(str(path))):
        size, adapt = image_size or preprocessing.image_size, {}
        if isinstance(config, ViTConfig | SwinConfig):
            config, adapt = resampled_at(config, size)
        if isinstance(config, ImageTextConfig):
            image, resample = resampled_at(config.image, size)
            config, adapt = dataclasses.replace(config, image=image), {f"image/{key}": change for key, change in resample.items()}
            kind, fields = ImageText, {"tokenizer": _tokenizer(path.with_name(TOKENIZER), stored)}
        expected = jax.eval_shape(lambda: FAMILIES[family].init_params(jax.random.key(0), config))
    rows = [Entry(key, key, np.asarray) for key in flatten(expected)]
    return kind(
        params=jax.device_put(convert(Dequantised(checkpoint), rows, expected, adapt=adapt, what=str(path), dtype=dtype)),
        forward=FAMILIES[family].network(config),
        config=dave_config,
        preprocessing=dataclasses.replace(preprocessing, image_size=size),
        class_names=None if names is None else tuple(names),
        name=name,
        source=f"{place or path} {checkpoint.fingerprint}" + (f", from {source}" if source else ""),
        **fields,
    )


def _tokenizer(path: Path, stored: Mapping[str, Any]) -> Tokenizer:
    if not path.exists():
        raise FileNotFoundError(f"A model of images and text needs {str(path)!r} beside its weights. Copy both, or save it again.")
    return Tokenizer(path.read_text(encoding="utf-8"), **_tuples(stored["tokenizer"]))


def _description(model: Model, family: str) -> dict[str, Any]:
    network: Any = model.forward
    fields = dataclasses.asdict(model.tokenizer) if isinstance(model, ImageText) and model.tokenizer else {}
    tokenizer = {"tokenizer": {name: value for name, value in fields.items() if name != "source"}} if fields else {}
    half = {"dtype": "bfloat16"} if any(leaf.dtype == _HALF for leaf in jax.tree.leaves(model.params)) else {}
    return {
        "version": _VERSION,
        "name": model.name,
        "source": model.source,
        family: dataclasses.asdict(network.config),
        "preprocessing": dataclasses.asdict(model.preprocessing),
        "class_names": model.class_names,
        "dave_config": config_as_json(model.config),
        **half,
        **tokenizer,
    }


def _config(family: str, fields: Mapping[str, Any]) -> Any:
    """The configuration of a network that a description holds."""
    read = _tuples(fields)
    if family == "image_text":
        read |= {"image": _config("vit", read["image"]), "text": TextConfig(**read["text"])}
    if read.get("rotary") is not None:
        read["rotary"] = Rotary(**_tuples(read["rotary"]))
    return FAMILIES[family].config(**read)


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that they were."""

    def inside(value: Any) -> Any:
        return tuple(inside(entry) for entry in value) if isinstance(value, list) else value

    return {name: inside(value) for name, value in fields.items()}
