"""`open_maps`: what a run over a data set wrote, read as it is asked for."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int32, UInt8

from dave_jax.batch.layout import FAILED
from dave_jax.batch.listing import as_text
from dave_jax.batch.store import open_arrays, open_folder, read_attributes


@dataclasses.dataclass(frozen=True)
class Entry:
    """A photograph of a run.

    Attributes:
        name: its path in the data set.
        maps: heat maps of its targets; NaN where there are none.
        targets: class ids.
        logits: of the targets.
        probabilities: of the targets.
        bias_shares: the parts of the logits that are not the image's, `biases / logit`.
        completeness: the relative residual of `logit = <W_eff, x> + biases`, for each target.
        reason: why it could not be explained; empty if it was, or is still to come.
    """

    name: str
    maps: Float[np.ndarray, "k h w"]
    targets: Int32[np.ndarray, " k"]
    logits: Float[np.ndarray, " k"]
    probabilities: Float[np.ndarray, " k"]
    bias_shares: Float[np.ndarray, " k"]
    completeness: Float[np.ndarray, " k"]
    reason: str


@dataclasses.dataclass(frozen=True)
class Maps:
    """A store of maps: a sequence of `Entry`. Nothing is read before it is asked for.

    Attributes:
        arrays: the store's arrays by name (see `dave_jax.batch.layout`), of tensorstore: index them, and `numpy.asarray` reads.
        attributes: `run`, all that the maps depend on, `class_names`, and `source`, the place of the photographs, or None.
    """

    arrays: Mapping[str, Any]
    attributes: Mapping[str, Any]

    def __len__(self) -> int:
        return self.arrays["status"].shape[0]

    def __getitem__(self, index: int) -> Entry:
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} photographs; got index {index}.")
        reads = {name: array[index % len(self)].read() for name, array in self.arrays.items()}
        row = {name: np.asarray(read.result()) for name, read in reads.items()}
        return Entry(
            name=as_text(row["name"]),
            maps=row["maps"],
            targets=row["target"],
            logits=row["logit"],
            probabilities=row["probability"],
            bias_shares=row["bias_share"],
            completeness=row["completeness"],
            reason=as_text(row["reason"]),
        )

    def __iter__(self) -> Iterator[Entry]:
        return (self[index] for index in range(len(self)))

    @property
    def status(self) -> UInt8[np.ndarray, " images"]:
        """0 not yet, 1 explained, 2 failed."""
        return self.arrays["status"].read().result()

    @property
    def targets(self) -> Int32[np.ndarray, "images k"]:
        """Class ids; -1 where there are none yet."""
        return self.arrays["target"].read().result()

    @property
    def names(self) -> list[str]:
        """Of all photographs that have been dealt with; empty for the others."""
        return [as_text(row) for row in self.arrays["name"].read().result()]

    @property
    def reasons(self) -> dict[int, str]:
        """Why photographs could not be explained, by their number."""
        failed = np.flatnonzero(self.status == FAILED)
        return {int(index): as_text(self.arrays["reason"][int(index)].read().result()) for index in failed}


def open_maps(path: str | os.PathLike[str]) -> Maps:
    """Open what `explain_dataset` or `dave-jax batch` wrote, finished or not.

    Args:
        path: of the store, or its URL.

    Raises:
        FileNotFoundError: there is no store.
        ValueError: it has another format, that of another version of dave_jax.
        ModuleNotFoundError: tensorstore is not installed (the extra `batch`).

    Example:
        >>> import tempfile, jax, numpy as np, dave_jax as dave
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     photos = np.zeros((3, 20, 20, 3), np.uint8)
        ...     _ = dave.explain_dataset(dave.testing.tiny_model(), photos, f"{folder}/maps.zarr", key=jax.random.key(0))
        ...     maps = open_maps(f"{folder}/maps.zarr")
        ...     len(maps), maps[2].maps.shape, maps.reasons
        (3, (1, 16, 16), {})
    """
    place = os.fspath(path)
    folder = open_folder(place)
    attributes = read_attributes(folder, place)
    if attributes is None:
        raise FileNotFoundError(f"There is no store of maps at {place!r}. Check the path; `dave-jax batch` writes one.")
    return Maps(open_arrays(folder, place), attributes)
