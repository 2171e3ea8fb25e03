"""timm's table of architectures: the constructor options and pretrained tags that a checkpoint's files do not hold.

`architectures()` reads the table that the package ships; `python -m convert_weights.architectures -o FILE` makes it anew from the timm
that is installed (the `parity` extra).
"""

import argparse
import difflib
import functools
import importlib
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("timm_architectures.json")
"""The shipped table."""

_MODULES = {
    **{"vision_transformer": "vit", "deit": "vit", "eva": "eva", "beit": "beit"},
    **{"swin_transformer": "swin", "swin_transformer_v2": "swinv2", "resnet": "resnet", "convnext": "convnext"},
}
"""timm's modules of models, and the family of each: which options and names its networks have."""

_FAMILY = "vit"
"""The one that the file leaves out."""

_TAG_DEFAULTS: dict[str, Any] = {
    "hf_hub_id": "timm/{architecture}.{tag}",
    "num_classes": 1000,
    "input_size": [3, 224, 224],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "crop_pct": 0.9,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "license": "apache-2.0",
}
"""What the file leaves out of a tag; every field of a tag is here."""


@functools.cache
def architectures() -> dict[str, dict[str, Any]]:
    """The shipped table, by name of the architecture.

    Returns:
        For each architecture `family` (`vit`, `eva`, `beit`, `swin`, `swinv2`, `resnet`, `convnext`), `options`, those of timm's
        constructor that differ from its defaults, and `tags`, timm's default first, with the fields `hf_hub_id` (None where the weights
        are not on the hub), `num_classes`, `input_size` (channels first), `mean`, `std`, `crop_pct`, `crop_mode`, `interpolation`,
        `license`.

    Example:
        >>> tiny = architectures()["deit_tiny_patch16_224"]
        >>> tiny["options"]["num_heads"], tiny["tags"]["fb_in1k"]["hf_hub_id"]
        (3, 'timm/deit_tiny_patch16_224.fb_in1k')
    """
    return from_document(json.loads(FILE.read_text(encoding="utf-8")))


def near_names(name: str, names: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known ones."""
    near = difflib.get_close_matches(name, list(names), n=3)
    return f"Near names: {', '.join(near)}." if near else "No known name is near it; `dave-jax models` lists them."


def from_document(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The table of a file's JSON: what its tags leave out is filled in."""

    def tag(architecture: str, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        filled = {**document["tag_defaults"], **fields}
        if "hf_hub_id" not in fields:
            filled["hf_hub_id"] = filled["hf_hub_id"].format(architecture=architecture, tag=name)
        return filled

    return {
        architecture: {
            "family": entry.get("family", _FAMILY),
            "options": entry["options"],
            "tags": {name: tag(architecture, name, fields) for name, fields in entry["tags"].items()},
        }
        for architecture, entry in document["architectures"].items()
    }


def to_text(table: Mapping[str, Mapping[str, Any]], version: str) -> str:
    """The text of the file: a line for each architecture and each tag, without the fields that equal the defaults."""
    lines = []
    for architecture, entry in table.items():
        tags = []
        for name, fields in entry["tags"].items():
            usual = _TAG_DEFAULTS | {"hf_hub_id": _TAG_DEFAULTS["hf_hub_id"].format(architecture=architecture, tag=name)}
            tags.append(f"    {json.dumps(name)}: {json.dumps({key: value for key, value in fields.items() if value != usual[key]})}")
        listing = ",\n".join(tags)
        listing = f"{{\n{listing}\n  }}" if tags else "{}"
        family = "" if entry["family"] == _FAMILY else f'"family": {json.dumps(entry["family"])}, '
        lines.append(f'  {json.dumps(architecture)}: {{{family}"options": {json.dumps(entry["options"])}, "tags": {listing}}}')
    return "\n".join(
        [
            "{",
            f'"made_from": "timm {version}",',
            f'"tag_defaults": {json.dumps(_TAG_DEFAULTS)},',
            '"architectures": {',
            ",\n".join(lines),
            "}",
            "}\n",
        ]
    )


def table_of_timm() -> dict[str, dict[str, Any]]:
    """The table of the timm that is installed: its live VisionTransformers, Evas, Beits, SwinTransformers (V2 too), ResNets and
    ConvNeXts, sorted by name.

    Each of timm's model functions is called with its builder replaced by one that keeps the arguments and builds nothing.
    """
    timm, modules = _timm(""), {name: _timm(f".models.{name}") for name in _MODULES}
    recorded: list[tuple[type, dict[str, Any]]] = []

    def keep(cls: type, variant: str, pretrained: bool, **arguments: Any) -> None:
        recorded.append((cls, arguments))

    families = {name: family for module, family in _MODULES.items() for name in timm.list_models(module=module)}
    table = {}
    builders = {name: module.build_model_with_cfg for name, module in modules.items()}
    try:
        for module in modules.values():
            module.build_model_with_cfg = keep
        for name, family in sorted(families.items()):
            timm.model_entrypoint(name)()
            table[name] = {"family": family, "options": _options(*recorded.pop(), timm.get_pretrained_cfg(name)), "tags": _tags(name)}
    finally:
        for name, module in modules.items():
            module.build_model_with_cfg = builders[name]
    return table


def _timm(module: str) -> Any:
    """A module of timm; imported by its name, for this folder holds another module called timm."""
    return importlib.import_module(f"timm{module}")


def _options(cls: type, arguments: Mapping[str, Any], pretrained: Any) -> dict[str, Any]:
    """The arguments that differ from the constructor's defaults; image size and classes are the default tag's, as in timm."""
    height, width = pretrained.input_size[1:]
    given = {"img_size": height if height == width else (height, width), "num_classes": pretrained.num_classes} | dict(arguments)
    distilled = cls.__name__ == "VisionTransformerDistilled"
    parameters = inspect.signature(cls.__mro__[1] if distilled else cls).parameters
    options = {name: _written(given[name]) for name in parameters if name in given and given[name] != parameters[name].default}
    return options | ({"distilled": True} if distilled else {})


def _tags(architecture: str) -> dict[str, dict[str, Any]]:
    """The tags with weights; timm's default first, an order that its public functions lose."""
    tags = {}
    for tag in _timm(".models._registry")._model_default_cfgs[architecture].tags:
        pretrained = _timm("").get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)
        if tag and pretrained.has_weights:
            tags[tag] = {name: _written(getattr(pretrained, name)) for name in _TAG_DEFAULTS}
    return tags


def _written(value: Any) -> Any:
    """A value as JSON: layers by name, with the arguments they are bound to in brackets."""
    if isinstance(value, functools.partial):
        bound = ",".join(f"{name}={_written(argument)}" for name, argument in value.keywords.items())
        return f"{value.func.__name__}({bound})"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, dict):
        return {name: _written(inner) for name, inner in value.items()}
    return [_written(inner) for inner in value] if isinstance(value, (tuple, list)) else value


def main(arguments: list[str] | None = None) -> None:
    """Write the table of the installed timm to a file."""
    parser = argparse.ArgumentParser(prog="python -m convert_weights.architectures", description=main.__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    output, table, version = parser.parse_args(arguments).output, table_of_timm(), _timm("").__version__
    output.write_text(to_text(table, version), encoding="utf-8")
    print(f"{output}: {len(table)} architectures of timm {version}")


if __name__ == "__main__":
    main()
