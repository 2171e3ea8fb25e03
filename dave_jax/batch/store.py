"""The store of a run: a Zarr v3 group, written by tensorstore, in which a batch is either finished or not there.

What it consists of stands in `dave_jax.batch.layout`. A chunk is replaced at once, so a process may be killed at any moment; what it left
of an unfinished batch is written again. Beside the arrays lies `stop`, where process 0 of several was told to stop and tells the others; it
is gone with the next start.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dave_jax.batch.extras import need
from dave_jax.batch.layout import FAILED, FORMAT, PENDING, Layout
from dave_jax.evaluation.log import difference

SECONDS = 120
"""Until a store that does not answer counts as unreachable."""

_ROOT, _STOP = "zarr.json", "stop"


@dataclasses.dataclass(frozen=True)
class Store:
    """An open store; from `open_store`.

    Attributes:
        place: path or URL.
        layout: its shapes.
        arrays: by name.
    """

    place: str
    layout: Layout
    arrays: Mapping[str, Any]

    @property
    def num_batches(self) -> int:
        """How many batches the data set has."""
        return -(-self.layout.count // self.layout.batch_size)

    def rows(self, batch: int) -> slice:
        """The photographs of a batch."""
        start = batch * self.layout.batch_size
        return slice(start, min(start + self.layout.batch_size, self.layout.count))

    def write(self, batch: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a batch, its status last, when all else is on disk."""
        rows = self.rows(batch)
        started = [self.arrays[name][rows].write(value) for name, value in values.items() if name != "status"]
        for future in started:
            told(f"Writing to {self.place!r}", future.result, 5 * SECONDS)
        told(f"Writing to {self.place!r}", self.arrays["status"][rows].write(values["status"]).result, 5 * SECONDS)

    def read(self, batch: int) -> dict[str, np.ndarray]:
        """What the store has of a batch."""
        rows = self.rows(batch)
        started = {name: array[rows].read() for name, array in self.arrays.items()}
        return {name: told(f"Reading {self.place!r}", future.result, 5 * SECONDS) for name, future in started.items()}

    def status(self) -> np.ndarray:
        """Of each photograph."""
        return told(f"Reading {self.place!r}", self.arrays["status"].read().result, 5 * SECONDS)

    def tell_stop(self, stop: bool) -> None:
        """Tell all processes to stop after the batches in flight, or take that back."""
        write = open_folder(self.place).write(_STOP, b"" if stop else None)
        told(f"Writing to {self.place!r}", write.result, SECONDS)

    def stop_told(self) -> bool:
        """Whether `tell_stop` has been called."""
        return told(f"Reading {self.place!r}", open_folder(self.place).read(_STOP).result, SECONDS).state == "value"

    def pending(self, retry_failed: bool = False) -> list[int]:
        """The batches that are not finished; with `retry_failed`, also those with a photograph that failed."""
        status = self.status()
        due = (status == PENDING) | (retry_failed & (status == FAILED))
        return sorted({int(index) // self.layout.batch_size for index in np.flatnonzero(due)})


def open_folder(place: str | os.PathLike[str]) -> Any:
    """Where a store is or will be, as a key-value store: a path, or a URL that tensorstore knows (`gs://`, `s3://`, ...)."""
    tensorstore = need("tensorstore")
    place = os.fspath(place)
    if "://" in place:
        return told(f"Opening {place!r}", tensorstore.KvStore.open(place.rstrip("/") + "/").result, SECONDS)
    path = Path(place).absolute()
    if path.exists() and not path.is_dir():
        raise ValueError(f"A store is a folder; {place!r} is a file. Give another path.")
    return tensorstore.KvStore.open({"driver": "file", "path": f"{path}/"}).result()


def read_attributes(folder: Any, place: str) -> dict[str, Any] | None:
    """The attributes of the store in a folder; None where there is nothing yet.

    Raises:
        ValueError: there is something else, or a store of another format.
    """
    content = _read_root(folder, place)
    if not content:
        others = [key for key in told(f"Reading {place!r}", folder.list().result, SECONDS) if not key.endswith(b"__lock")]
        content = _read_root(folder, place)  # another process may have created the store meanwhile, this file first
        if others and not content:
            raise ValueError(f"{place!r} holds something else than a store of maps. Give a new path.")
        if not content:
            return None
    try:
        attributes = json.loads(content)["attributes"]
        attributes |= {"run": dict(attributes["run"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{place!r} holds a Zarr group that is no store of maps. Give another path.") from error
    _check_format(attributes, place)
    return attributes


def _check_format(attributes: Mapping[str, Any], place: str) -> None:
    found, writer = attributes.get("format"), attributes["run"].get("dave_jax", "an unknown version")
    if found != FORMAT:
        kind = "without a number of its format, as earlier versions wrote it" if found is None else f"of format {found}"
        raise ValueError(
            f"{place!r} is a store of maps {kind} (dave_jax {writer}); this one, dave_jax {version('dave-jax')}, reads and finishes format "
            f"{FORMAT}. Use the dave_jax that wrote it, or explain the data set again, into another path."
        )


def _read_root(folder: Any, place: str) -> bytes:
    return told(f"Reading {place!r}", folder.read(_ROOT).result, SECONDS).value


def check_run(stored: Mapping[str, Any], run: Mapping[str, Any], place: str) -> None:
    """Raise unless a store holds the same run.

    Raises:
        ValueError: it does not; the message shows the difference.
    """
    found = difference(stored.get("method"), run.get("method"), "method")  # with another, all settings are others
    found = found or difference(dict(stored), dict(run))
    if found:
        raise ValueError(f"{place!r} holds another run ({'; '.join(found)}). Give the same settings, or another path.")


def open_store(place: str, layout: Layout, attributes: Mapping[str, Any]) -> Store:
    """Create a store, or open it where it is; several processes may do so at once.

    Args:
        place: path or URL.
        layout: its shapes.
        attributes: of the group, but for its format; `run` must be the same as that of a store that is there.

    Raises:
        ValueError: another run, or another format, is there.
        OSError: the store cannot be reached or written.
    """
    folder = open_folder(place)
    if read_attributes(folder, place) is None:
        group = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes) | {"format": FORMAT}}
        missing = folder.read(_ROOT).result().stamp.generation  # only the first of several processes writes
        document = json.dumps(group, indent=1, sort_keys=True).encode()
        told(f"Creating {place!r}", folder.write(_ROOT, document, if_equal=missing).result, SECONDS)
    check_run((read_attributes(folder, place) or {}).get("run", {}), attributes["run"], place)
    return Store(place, layout, {name: _open_array(folder, place, name, layout.metadata(name)) for name in layout.arrays()})


def _open_array(folder: Any, place: str, name: str, metadata: Mapping[str, Any] | None) -> Any:
    spec: dict[str, Any] = {"driver": "zarr3", "kvstore": (folder / f"{name}/").spec().to_json(), "open": True}
    if metadata is not None:
        spec |= {"metadata": metadata, "create": True}
    return told(f"Opening {place!r}", need("tensorstore").open(spec).result, SECONDS)


def open_arrays(folder: Any, place: str) -> dict[str, Any]:
    """The arrays of a store that is there, by name."""
    return {name: _open_array(folder, place, name, None) for name in Layout(1, 1, (1, 1), 1, 1, "float32").arrays()}


def told(what: str, action: Callable[..., Any], timeout: int) -> Any:
    """The result of an action of tensorstore; what goes wrong is an `OSError` that says what to do."""
    try:
        return action(timeout=timeout)
    except TimeoutError as error:
        reason, cause = f"no answer in {timeout} s", error
    except (ValueError, RuntimeError, OSError) as error:
        reason, cause = " ".join(str(error).partition(" [tensorstore_spec=")[0].split()), error
    raise OSError(
        f"{what} failed: {reason}. Make room, or see to the path and its permissions, then start the same command again: finished batches "
        "are kept."
    ) from cause
