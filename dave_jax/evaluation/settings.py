"""What a run depends on: its settings, their description as JSON, and the checks before any work begins."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import jax
import numpy as np

from dave_jax.attribution.dave import Dave
from dave_jax.attribution.method import Method
from dave_jax.config import DaveConfig, config_as_json
from dave_jax.effective.decomposition import Decomposition, presets, resolve
from dave_jax.evaluation.data import Photograph, fingerprint
from dave_jax.evaluation.log import difference, plain
from dave_jax.evaluation.metric import Metric
from dave_jax.models.model import Model


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run depends on besides model, data, methods and metrics.

    Attributes:
        seed: of the choice of photographs, the mosaics, the methods' and the metrics' randomness.
        max_images: photographs that are explained alone; None takes all that qualify.
        num_mosaics: at most so many.
        rows: of a mosaic, and columns.
        min_confidence: the least probability of a photograph's true class.
    """

    seed: int = 0
    max_images: int | None = None
    num_mosaics: int = 500
    rows: int = 2
    min_confidence: float = 0.9

    def __post_init__(self):
        for name, low in (("max_images", 1), ("num_mosaics", 1), ("rows", 2)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} must be at least {low}; got {value}.")
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(f"min_confidence is a probability; got {self.min_confidence:g}.")


def describe(
    model: Model, photographs: Sequence[Photograph], methods: Mapping[str, Method], metrics: Mapping[str, Metric], settings: Settings
) -> dict[str, Any]:
    """All that the results depend on, for JSON."""
    return {
        "model": {
            "name": model.name,
            "source": model.source,
            "image_size": list(model.preprocessing.image_size),
            "config": as_json(model.config),
        },
        "data": {"photographs": len(photographs), "fingerprint": fingerprint(photographs)},
        "settings": dataclasses.asdict(settings),
        "metrics": {name: as_json(metric) for name, metric in metrics.items()},
        "methods": {name: as_json(method) for name, method in methods.items()},
    }


def as_json(value: Any) -> Any:
    """Settings by name; anything else by its name. Functions that are not ours also by what they do."""
    if isinstance(value, Decomposition) and presets.get(value.name) == value:
        return value.name
    if dataclasses.is_dataclass(value):
        kind = {} if isinstance(value, DaveConfig) else {"type": type(value).__name__}
        return kind | {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int | float | jax.Array | np.ndarray):
        return plain(value)
    name = getattr(value, "__name__", type(value).__name__)
    if not isinstance(value, FunctionType) or value.__module__.startswith("dave_jax."):
        return name
    return f"{name} {_code(value)}"


def method_as_json(method: Method) -> dict[str, Any]:
    """What a method does besides its name; DAVE's floats exactly, so that a map can be computed again.

    Example:
        >>> from dave_jax.attribution.methods import methods
        >>> method_as_json(methods["attn_lrp"])
        {'settings': {'type': 'InputTimesGradient', 'decomposition': 'attn_lrp'}}
    """
    if not isinstance(method, Dave) or method.config is None:
        return {"settings": as_json(method)}
    return {"decomposition": as_json(resolve(method.decomposition)), "config": config_as_json(method.config)}


def _code(function: FunctionType) -> str:
    """A hash of what a function does: of its bytecode and constants, wherever it stands."""
    code = function.__code__
    constants = [constant for constant in code.co_consts if not isinstance(constant, CodeType)]
    return hashlib.sha256(code.co_code + repr((code.co_names, constants)).encode()).hexdigest()[:16]


def check(photographs: Sequence[Photograph], methods: Mapping[str, Method], metrics: Mapping[str, Metric]) -> None:
    """Raise where methods, metrics and photographs do not fit.

    Raises:
        ValueError: nothing to do, a name that is no file name, or a metric that needs boxes without any.
    """
    if not methods or not metrics:
        raise ValueError("A run needs at least one method and one metric.")
    for name in (*methods, *metrics):
        if not re.fullmatch(r"[\w.+-]+", name):
            raise ValueError(f"Names of methods and metrics consist of letters, digits and _ . + -; got {name!r}.")
    regional = [name for name, metric in metrics.items() if metric.needs == "region"]
    if regional and not any(photograph.marked for photograph in photographs):
        raise ValueError(
            f"{', '.join(regional)} needs boxes or masks, and none of the {len(photographs)} photographs has any. "
            "Give a table with boxes or masks, or leave out the metric."
        )


def check_folder(folder: Path, new: dict[str, Any]) -> None:
    """Raise unless a folder is new or holds a run of the same configuration, but for methods at its end.

    Raises:
        ValueError: it does not; the message shows the difference.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"The results go into a folder; {str(folder)!r} is a file.")
    if not (folder / "run.json").is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{str(folder)!r} holds something else than a run. Give a new folder.")
        return
    old = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    names = list(old.get("methods", {}))
    if set(names) <= set(new["methods"]):  # methods may be added
        old = old | {"methods": {name: old["methods"].get(name, settings) for name, settings in new["methods"].items()}}
    found = difference(old, new)
    if not found and (list(new["methods"])[: len(names)] != names or list(new["metrics"]) != list(old["metrics"])):
        found = [f"methods and metrics in another order: {', '.join(names)}; {', '.join(old['metrics'])}"]
    if found:
        raise ValueError(
            f"{str(folder)!r} holds a run of another configuration ({'; '.join(found)}). Give a new folder, or the same settings."
        )
