"""The photographs of a run, found again: as the model saw them, by the source that the store names, or one that is given."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dave_jax.batch.listing import Files, Photographs, fingerprint, list_photographs
from dave_jax.batch.reading import as_reason
from dave_jax.models.preprocess import Preprocessing


@dataclasses.dataclass(frozen=True)
class Album:
    """Photographs of a run; from `open_album`.

    Attributes:
        preprocessing: the model's.
        photographs: of the source; None where it is not there.
        numbers: in the source, by name; None where the source is the run's, in its order.
        problem: why there are none; empty if there are.
    """

    preprocessing: Preprocessing
    photographs: Photographs | None
    numbers: Mapping[str, int] | None
    problem: str

    def pixels(self, index: int, name: str) -> Float[np.ndarray, "h w 3"]:
        """A photograph as the model saw it, in [0, 1].

        Args:
            index: its number in the run.
            name: its name in the run.

        Raises:
            ValueError: it is not there, or cannot be read; the message says why.
        """
        if self.photographs is None:
            raise ValueError(self.problem)
        number = index if self.numbers is None else self.numbers.get(name)
        if number is None:
            raise ValueError("it is no longer in the source")
        try:
            image = self.preprocessing(self.photographs.photo(number))[0]
        except Exception as error:  # a damaged file can raise anything in a decoder
            raise ValueError(as_reason(error)) from error
        return self.preprocessing.denormalise(image)


def open_album(attributes: Mapping[str, Any], names: list[str], source: Any = None) -> Album:
    """Find the photographs of a store again.

    Args:
        attributes: of the store.
        names: of its photographs.
        source: where they are now, or themselves, as for `explain_dataset`; default where they were.

    Raises:
        FileNotFoundError, ValueError: there is nothing in the source that was given. What the store names may be gone.
    """
    run, place = attributes["run"], attributes.get("source")
    preprocessing = _preprocessing(run["model"]["preprocessing"])
    found = place if source is None else source
    if found is None:
        return Album(preprocessing, None, None, "the run's photographs were in memory, not in files")
    if isinstance(found, str | os.PathLike) and run["data"]["kind"] == "list":
        return Album(preprocessing, Files("list", Path(found), names, [None] * len(names)), None, "")
    try:
        photographs = list_photographs(found)
    except (FileNotFoundError, ValueError, ModuleNotFoundError) as error:
        if source is not None:
            raise
        return Album(preprocessing, None, None, as_reason(error))
    if fingerprint(photographs) == run["data"]["fingerprint"]:
        return Album(preprocessing, photographs, None, "")
    return Album(preprocessing, photographs, {name: number for number, name in enumerate(photographs.names)}, "")


def _preprocessing(settings: Mapping[str, Any]) -> Preprocessing:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items() if name != "type"
    }
    return Preprocessing(**values)
