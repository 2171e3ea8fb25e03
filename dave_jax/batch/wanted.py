"""Which classes of each photograph are explained."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from dave_jax.batch.listing import Photographs
from dave_jax.models.model import Model, canonical, count_classes


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The targets of a run.

    Attributes:
        count: of each photograph.
        top: whether they are the classes that the model holds most probable.
        classes: the same for every photograph; empty where they are its label, or `top`.
    """

    count: int
    top: bool = False
    classes: tuple[int, ...] = ()

    @property
    def description(self) -> str | list[int]:
        """As JSON."""
        return f"top-{self.count}" if self.top else list(self.classes) or "label"


def parse_targets(model: Model, targets: Any) -> Wanted:
    """Targets from `top-K`, `label`, a class name or number, or a sequence of names and numbers.

    Raises:
        ValueError: a class that the model does not have.
    """
    classes = count_classes(model)
    if isinstance(targets, str | int):
        targets = [targets]
    targets = [str(target) for target in targets]
    if targets == ["label"]:
        return Wanted(1)
    if len(targets) == 1 and (match := re.fullmatch(r"top-(\d+)", targets[0])):
        if not 1 <= int(match[1]) <= classes:
            raise ValueError(f"top-K needs K from 1 to {classes}, the number of the model's classes; got {targets[0]!r}.")
        return Wanted(int(match[1]), top=True)
    if not targets or any(target == "label" or target.startswith("top-") for target in targets):
        raise ValueError(f"Targets are top-K alone, label alone, or classes; got {targets}.")
    found = tuple(dict.fromkeys(model.class_index(target) for target in targets))
    if max(found) >= classes:
        raise ValueError(f"A class id lies in 0 to {classes - 1}, for the model has {classes} classes; got {max(found)}.")
    return Wanted(len(found), classes=found)


def targets_of(wanted: Wanted, photographs: Photographs, model: Model) -> tuple[Int32[np.ndarray, "n k"], dict[int, str]]:
    """The class ids of every photograph, 0 where the model is to choose; and, by number, why a photograph has none."""
    count = len(photographs.names)
    if wanted.top or wanted.classes:
        row = np.array(wanted.classes or [0] * wanted.count, np.int32)
        return np.broadcast_to(row, (count, wanted.count)), {}
    found: dict[str | None, int | str] = {label: _class_of(label, photographs, model) for label in set(photographs.labels)}
    ids: Sequence[int | str] = [found[label] for label in photographs.labels]
    reasons = {i: one for i, one in enumerate(ids) if isinstance(one, str)}
    return np.array([0 if isinstance(one, str) else one for one in ids], np.int32)[:, None], reasons


def _class_of(named: str | None, photographs: Photographs, model: Model) -> int | str:
    """A class id, or why there is none."""
    if named is None:
        return "the photograph has no label"
    known = {canonical(name) for name in model.class_names or ()}
    try:
        index = model.class_index(named if canonical(named) in known else str(photographs.translation.get(named, named)))
    except ValueError as error:
        return str(error)
    classes = count_classes(model)
    return index if index < classes else f"label {named!r} is beyond the model's {classes} classes"
