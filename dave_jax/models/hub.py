"""`load`: a model by its name, from the Hugging Face hub, a folder, a file, or the one embedded in the package.

    name -> files (config.json, safetensors) -> configuration + arrays -> parameters on the device -> Model

Weights are read from safetensors alone; nothing is unpickled.
"""

import fnmatch
import functools
import operator
import os
from pathlib import Path
from typing import Any

import jax

from dave_jax.config import DaveConfig
from dave_jax.models import store
from dave_jax.models.checkpoint import Checkpoint
from dave_jax.models.families import FAMILIES
from dave_jax.models.files import CONFIG, OPEN_CLIP_CONFIG, Found, find_local, is_local, json_object, telling
from dave_jax.models.image_text import ImageText
from dave_jax.models.model import Model
from dave_jax.models.npz import Npz
from dave_jax.models.presets import preset
from dave_jax.models.repository import find_on_hub

EMBEDDED = Path(__file__).parents[1] / "assets" / "default"
"""The folder of the embedded model."""

DTYPES = ("float32", "bfloat16", None)
"""What `load` takes for the type of the parameters."""

_PROCESSOR, _PROCESSORS = "preprocessor_config.json", "processor_config.json"


def load(
    name: str | os.PathLike | None = None,
    *,
    image_size: int | tuple[int, int] | None = None,
    revision: str | None = None,
    dtype: str | None = None,
) -> Model:
    """Load a model to explain.

    Args:
        name: one of

            - None: the small model embedded in the package;
            - a folder in the format of `store.save`, or in timm's layout (`config.json`, `model.safetensors`, which may be sharded), or in
              that of transformers (`preprocessor_config.json` too), or in that of open_clip (`open_clip_config.json`,
              `open_clip_model.safetensors`);
            - a `.safetensors` file of either kind, or an `.npz` file of big_vision or vit_jax, which needs nothing beside it;
            - a name of timm, `deit3_base_patch16_224.fb_in1k`; without a tag (`deit3_base_patch16_224`) timm's first;
            - a repository of the Hugging Face hub, `org/repo` or `org/repo@revision`; `hf-hub:` may stand in front.
        image_size: another height and width than the checkpoint's, in pixels (an integer is both); a position embedding is resampled as
            timm or transformers does, and photographs are prepared to that size.
        revision: a branch, tag or commit of the repository.
        dtype: of the parameters, `float32` or `bfloat16`; they are rounded one by one as they are read. In bfloat16 they take half the
            memory, and `logits` and `explain` compute in it and return the images' type. None takes that of the model that `save` wrote,
            or else float32.

    Returns:
        The model, on the default device; a CLIP or SigLIP with both towers is an `ImageText`: `prompts` makes a classifier of it.
        Its `source` says where it came from, with commit and checksum; its `config` holds the authors' noise level for the six models that
        they tuned, what was stored, or else the default.

    Raises:
        ValueError: a name, architecture, option or revision that does not exist; a checkpoint that is cut off or does not fit its
            description; a checkpoint in a format that would have to be unpickled; an image size that the patches do not tile; a type that
            is neither.
        FileNotFoundError: no such folder or file; a repository without the files.
        PermissionError: a repository that asks for its terms to be accepted.
        ConnectionError: the hub cannot be reached, and its cache does not have the files.

    Example:
        >>> load("vit_small_patch16_224.augreg")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: 'vit_small_patch16_224.augreg' is no model of timm ...
    """
    size = _size(image_size)
    if dtype not in DTYPES:
        raise ValueError(f"dtype, the type of the parameters, must be one of {DTYPES}; got {dtype!r}.")
    if name is None or is_local(name):
        if revision is not None:
            raise ValueError(f"A revision is one of a hub repository; {name!r} is none. Leave revision out.")
        if name is None:
            return store.read(EMBEDDED, image_size=size, dtype=dtype, place="dave_jax/assets/default")
        return _assemble(find_local(Path(name)), size, dtype)
    return _assemble(find_on_hub(os.fspath(name), revision, check=lambda found: _describe(found, size)), size, dtype)


def known_models(pattern: str | None = None) -> list[str]:
    """The names of timm that `load` takes, `architecture.tag`.

    Args:
        pattern: a part of the name, or a pattern with `*` and `?`.

    Example:
        >>> known_models("deit3_base*_224.fb_in1k")
        ['deit3_base_patch16_224.fb_in1k']
    """
    if pattern is None:
        return list(_loadable())
    if any(sign in pattern for sign in "*?["):
        return fnmatch.filter(_loadable(), pattern)
    return [name for name in _loadable() if pattern in name]


@functools.cache
def _loadable() -> tuple[str, ...]:
    from convert_weights.architectures import architectures
    from convert_weights.config_json import describe

    names = []
    for architecture, entry in architectures().items():
        try:
            describe({"architecture": architecture})
        except ValueError:  # an option that dave_jax does not know
            continue
        names += [f"{architecture}.{tag}" for tag, fields in entry["tags"].items() if fields["hf_hub_id"]]
    return tuple(names)


def _size(image_size: Any) -> tuple[int, int] | None:
    if image_size is None:
        return None
    sizes = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    try:
        height, width = (operator.index(size) for size in sizes)
    except (TypeError, ValueError) as error:
        raise TypeError(f"image_size is an integer or a pair (height, width) of integers; got {image_size!r}.") from error
    if min(height, width) < 1:
        raise ValueError(f"image_size must be positive; got {image_size!r}.")
    return height, width


def _describe(found: Found, image_size: tuple[int, int] | None) -> Any:
    """What config.json and the name say about the weights: a `Description` of one of the modules of `convert_weights`.

    Raises:
        ValueError: nothing that dave_jax has; the message names the file.
    """
    try:
        return _read_description(found, image_size)
    except (ArithmeticError, TypeError, ValueError) as error:
        files = (found.config, *(found.config.with_name(name) for name in (_PROCESSOR, _PROCESSORS))) if found.config else ()
        if isinstance(error, ValueError) and any(str(file) in str(error) for file in files):
            raise
        raise ValueError(f"{str(found.config)!r} must describe a network that dave_jax has; it does not. {error}") from error


def _read_description(found: Found, image_size: tuple[int, int] | None) -> Any:
    from convert_weights import bcos, huggingface, huggingface_clip, huggingface_convnext, huggingface_swin, open_clip
    from convert_weights.config_json import describe

    if found.config is None:
        raise FileNotFoundError(
            f"{found.place!r} needs a config.json beside its weights, which names the architecture and says how photographs are prepared: "
            '{"architecture": "vit_base_patch16_224", "num_classes": 9, "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}}.'
            " Add one (constructor options that differ from the architecture's go into model_args)."
        )
    document, what = json_object(found.config), repr(str(found.config))
    if found.config.name == OPEN_CLIP_CONFIG:
        return open_clip.describe(document, image_size=image_size, what=what)
    if bcos.is_named(document):
        return bcos.describe(document, image_size=image_size, what=what)
    if "architecture" in document or "model_type" not in document:
        return describe(document, architecture=found.architecture, tag=found.tag, image_size=image_size, what=what)
    processor = found.beside(_PROCESSOR) or found.beside(_PROCESSORS)
    if processor is None:
        raise FileNotFoundError(
            f"{found.place!r} needs a {_PROCESSOR} beside its {CONFIG} of transformers: it says how photographs are prepared. "
            "Add the file of the model that it was trained from, or save its image processor there (save_pretrained)."
        )
    described = {"image_size": image_size, "what": what, "processor_what": repr(str(processor))}
    settings = json_object(processor)
    if processor.name == _PROCESSORS:  # that of the images beside that of the text
        settings = settings.get("image_processor") or settings
    readers = (huggingface_clip, huggingface_convnext, huggingface_swin)
    reader = next((reader for reader in readers if document["model_type"] in [*reader.CLASSES]), huggingface)  # it may be any JSON
    return reader.describe(document, settings, **described)


def _assemble(found: Found, image_size: tuple[int, int] | None, dtype: str | None) -> Model:
    """The model that the files describe."""
    from convert_weights import big_vision

    by_numpy = found.weights[0].suffix == ".npz"
    checkpoint = Npz(found.weights[0]) if by_numpy else Checkpoint(found.weights)
    if store.is_stored(checkpoint):
        if store.has_tokenizer(checkpoint):
            found.beside(store.TOKENIZER)  # of the hub: into the cache, beside the weights
        return store.read(found.weights[0], image_size=image_size, dtype=dtype, place=found.place)
    what = repr(found.place)
    read: Any = big_vision.describe(checkpoint, image_size=image_size, what=what) if by_numpy else _describe(found, image_size)
    kind, fields = Model, {}
    if read.family == "image_text":  # the small files before the large one
        kind, fields = ImageText, {"tokenizer": read.read_tokenizer(found.beside, found.place)}
    with telling(what if found.config is None else repr(str(found.config))):
        params = jax.device_put(read.params(checkpoint, what=what, dtype=dtype or "float32"))
    return kind(
        params=params,
        forward=FAMILIES[read.family].network(read.config),
        config=preset(read.architecture) or DaveConfig(),
        preprocessing=read.preprocessing,
        class_names=read.class_names,
        name=found.name,
        source=f"{found.place} {checkpoint.fingerprint}",
        **fields,
    )
