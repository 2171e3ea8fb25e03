"""What there is to explain: photographs of a data set in a fixed order, found once, opened one by one when they are due.

FOLDER            all images below it; the first folder's name is the label
LIST.csv          columns path and, if you like, target; paths relative to the table; LIST.parquet likewise
SHARDS.tar        webdataset: images, with a class in KEY.cls if you like; also a folder of tars, or a pattern: train-{000..127}.tar
DATASET           a Hugging Face dataset, as `save_to_disk` writes it
"""

import dataclasses
import glob
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dave_jax.batch.archives import list_archives
from dave_jax.batch.arrow import list_dataset
from dave_jax.batch.extras import need
from dave_jax.evaluation.folders import IMAGENETTE, SUFFIXES
from dave_jax.evaluation.tables import read_csv, read_json
from dave_jax.models.preprocess import Photo


@runtime_checkable
class Photographs(Protocol):
    """Photographs in a fixed order; must survive `pickle`, for worker processes read them.

    Attributes:
        kind: what they were listed from.
        names: one for each.
        labels: the class of each, a name or a number as text; None where it is not known.
        translation: classes by label, for labels that are not the model's class names.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def names(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def labels(self) -> Sequence[str | None]: ...  # noqa: D102

    @property
    def translation(self) -> Mapping[str, Any]: ...  # noqa: D102

    def photo(self, index: int) -> Photo:
        """One photograph; raises if it cannot be read."""
        ...


@dataclasses.dataclass(frozen=True)
class Files:
    """Files below a folder."""

    kind: str
    root: Path
    names: Sequence[str]
    labels: Sequence[str | None]
    translation: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def photo(self, index: int) -> Photo:
        """The path."""
        return self.root / self.names[index]


@dataclasses.dataclass(frozen=True)
class Given:
    """Photographs that are in memory, or paths."""

    photos: Sequence[Photo]
    names: Sequence[str]
    labels: Sequence[str | None]
    kind: str = "list"
    translation: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def photo(self, index: int) -> Photo:
        """The photograph."""
        return self.photos[index]


def list_photographs(source: Any) -> Photographs:
    """The photographs of a source: see the module; or a sequence of paths, PIL images or arrays; or `Photographs` of your own.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: a file of another kind, or no photograph.
        ModuleNotFoundError: a Parquet table without pyarrow, a Hugging Face dataset without datasets.
    """
    if isinstance(source, str | os.PathLike):
        found = _at(os.fspath(source))
    elif isinstance(source, Photographs):
        found = source
    elif isinstance(source, Iterable):
        photos = list(source)
        names = [os.fspath(photo) if isinstance(photo, str | os.PathLike) else str(number) for number, photo in enumerate(photos)]
        found = Given(photos, names, [None] * len(photos))
    else:
        raise TypeError(f"A source is a path, a pattern, or a sequence of photographs; got {type(source).__name__}.")
    if not len(found.names):
        raise ValueError(f"{str(source)!r} holds no photograph ({' '.join(SUFFIXES)}).")
    return found


def place_of(source: Any) -> str | None:
    """Where photographs are, for those who look for them later: a path, or the folder that a list's paths start from; None in memory.

    Example:
        >>> place_of("/data/train-{00..12}.tar"), place_of([np.zeros((4, 4))])
        ('/data/train-{00..12}.tar', None)
    """
    if isinstance(source, str | os.PathLike):
        return os.path.abspath(source)  # noqa: PTH100 a pattern is no Path
    paths = isinstance(source, Sequence) and any(isinstance(photo, str | os.PathLike) for photo in source)
    return str(Path.cwd()) if paths else None


def _at(source: str) -> Photographs:
    path = Path(source)
    if re.search(r"[*?{\[]", source) and not path.exists():
        paths = sorted(Path(name) for pattern in expand(source) for name in glob.glob(pattern))  # noqa: PTH207 absolute patterns too
        if not paths:
            raise FileNotFoundError(f"No file fits {source!r}. Check the pattern, and quote it: the shell may have expanded it.")
        return list_archives(paths)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no data {source!r}. Give an image folder, a .csv or .parquet list, a .tar, or a dataset on disk."
        )
    if path.is_dir():
        return _folder(path)
    readers = {".csv": _csv_rows, ".parquet": _parquet_rows}
    if path.suffix in readers:
        rows = readers[path.suffix](path)
        names = [name for name, _ in rows]
        return Files(path.suffix[1:], path.parent, names, [None if label in (None, "") else str(label) for _, label in rows], IMAGENETTE)
    if path.suffix == ".tar":
        return list_archives([path])
    raise ValueError(f"A source is a folder, a .csv, .parquet or .tar file, or a dataset on disk; got {source!r}.")


def expand(pattern: str) -> list[str]:
    """A pattern with `{000..127}` as several without.

    Example:
        >>> expand("train-{08..10}.tar")
        ['train-08.tar', 'train-09.tar', 'train-10.tar']
    """
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if match is None:
        return [pattern]
    numbers = (f"{number:0{len(match[1])}}" for number in range(int(match[1]), int(match[2]) + 1))
    return [rest for number in numbers for rest in expand(pattern[: match.start()] + number + pattern[match.end() :])]


def _folder(path: Path) -> Photographs:
    if (path / "dataset_dict.json").is_file():
        splits = read_json(path / "dataset_dict.json", dict).get("splits", [])
        raise ValueError(f"{str(path)!r} holds several datasets, {', '.join(splits)}. Name one: {path / splits[0] if splits else path}.")
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        return list_dataset(path)
    names, archives = [], []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(folder).relative_to(path)
        names += [(inside / name).as_posix() for name in files if not name.startswith(".") and name.lower().endswith(SUFFIXES)]
        archives += [Path(folder) / name for name in files if name.endswith(".tar")]
    if not names and archives:
        return list_archives(sorted(archives))
    names.sort()
    table = path / "classes.json"
    translation = IMAGENETTE | (read_json(table, dict) if table.is_file() else {})
    return Files("folder", path, names, [name.partition("/")[0] if "/" in name else None for name in names], translation)


def _csv_rows(path: Path) -> list[tuple[str, Any]]:
    rows = read_csv(path)
    if rows and "path" not in rows[0]:
        raise ValueError(f"The first line of {str(path)!r} must name a column path, and target if you like; got {list(rows[0])}.")
    return [(row["path"], row.get("target")) for row in rows if row["path"]]


def _parquet_rows(path: Path) -> list[tuple[str, Any]]:
    parquet = need("pyarrow.parquet", "pyarrow")
    columns = parquet.read_schema(path).names
    if "path" not in columns:
        raise ValueError(f"{str(path)!r} must have a column path, and target if you like; its columns are {columns}.")
    table = parquet.read_table(path, columns=[name for name in ("path", "target") if name in columns]).to_pydict()
    rows = zip(table["path"], table.get("target", [None] * len(table["path"])), strict=True)
    return [(str(name), label) for name, label in rows if name]


def fingerprint(photographs: Photographs) -> str:
    """Tells one list from another: a hash of names and labels, in their order, and of the pixels of photographs in memory."""
    digest = hashlib.sha256()
    for photo in photographs.photos if isinstance(photographs, Given) else ():
        if not isinstance(photo, str | os.PathLike):
            pixels = np.asarray(photo)
            digest.update(f"{pixels.dtype} {pixels.shape}\n".encode() + np.ascontiguousarray(pixels).tobytes())
    for name, label in zip(photographs.names, photographs.labels, strict=True):
        digest.update(f"{name}\0{label}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def as_bytes(text: str, width: int) -> np.ndarray:
    """Text as UTF-8 bytes with zeros behind it; what does not fit is cut off between two characters."""
    content = text.encode(errors="replace")[:width].decode(errors="ignore").encode()
    return np.frombuffer(content.ljust(width, b"\0"), np.uint8)


def as_text(row: np.ndarray) -> str:
    """What `as_bytes` made of a text.

    Example:
        >>> as_text(as_bytes("naïve", 3))
        'na'
    """
    return row.tobytes().rstrip(b"\0").decode()
