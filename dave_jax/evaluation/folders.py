"""Where labelled photographs lie: folders and archives of class folders, or beside a table."""

import lzma
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dave_jax.evaluation.tables import parse_json, read_json, read_table
from dave_jax.models.model import canonical

IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
"""Imagenette's classes by WordNet id, in the order of the embedded model's logits."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Of files that are taken for photographs."""

TABLES = ("labels.json", "labels.csv")
"""Names of tables inside a folder."""

_CLASSES = "classes.json"

DAMAGED = (tarfile.TarError, EOFError, MemoryError, OSError, OverflowError, ValueError, lzma.LZMAError, zlib.error)
"""What a broken archive raises."""


class ClassFolders(NamedTuple):
    """What a folder or an archive of class folders holds.

    Attributes:
        members: folder, path in the data, and file or bytes of each photograph.
        names: of classes, by folder, where they are not the folder's.
    """

    members: list[tuple[str, str, Path | bytes]]
    names: Mapping[str, Any]


def find(path: str | Path) -> Path:
    """The path of a data set.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no data {str(path)!r}. Give an image folder with class folders, a JSON or CSV file, or a .tar.")
    return Path(path)


def find_table(path: Path) -> Path | None:
    """The table of photographs that a path is or holds; None for class folders.

    Raises:
        ValueError: a file of another kind.
    """
    if path.is_dir():
        return next((path / name for name in TABLES if (path / name).is_file()), None)
    if path.suffix not in (".tar", ".json", ".csv"):
        raise ValueError(f"Data is a folder, a .json, .csv or .tar file; got {str(path)!r}.")
    return None if path.suffix == ".tar" else path


def class_folders(path: Path, *, with_content: bool = True) -> ClassFolders:
    """The photographs in the class folders of a folder or a `.tar`, in the order of their names; an archive's files empty if need be."""
    if path.is_dir():
        file = path / _CLASSES
        return ClassFolders(_members(path), IMAGENETTE | (read_json(file, dict) if file.is_file() else {}))
    try:
        with tarfile.open(path) as archive:
            files = {member.name.removeprefix("./"): member for member in archive.getmembers() if member.isfile()}
            content = {
                name: archive.extractfile(files[name]).read() if with_content or name == _CLASSES else b""  # pyright: ignore[reportOptionalMemberAccess] files
                for name in sorted(files)
            }
    except DAMAGED as error:
        raise ValueError(f"{str(path)!r} is no tar archive, or damaged ({error}). Unpack it, or download it again.") from error
    names = parse_json(content[_CLASSES], f"{_CLASSES} in {str(path)!r}", dict) if _CLASSES in content else {}
    members: list[tuple[str, str, Path | bytes]] = [
        (Path(name).parent.name, name, data) for name, data in content.items() if Path(name).suffix.lower() in SUFFIXES
    ]
    return ClassFolders(members, IMAGENETTE | names)


def _members(folder: Path) -> list[tuple[str, str, Path | bytes]]:
    members: list[tuple[str, str, Path | bytes]] = []
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            files = sorted(file for file in child.rglob("*") if file.suffix.lower() in SUFFIXES)
            members += [(child.name, file.relative_to(folder).as_posix(), file) for file in files]
    return members


def class_names(path: str | Path, *, label_field: str = "label") -> tuple[str, ...]:
    """The classes that a data set has, sorted; numbers by their value.

    Args:
        path: a folder, table or archive: see `evaluation.data`.
        label_field: the column of a table that holds the label.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it holds no photograph with a label, or classes whose names hardly differ.
    """
    path = find(path)
    table = find_table(path)
    if table is None:
        folders = class_folders(path, with_content=False)
        found = {str(folders.names.get(folder, folder)) for folder, _, _ in folders.members}
    else:
        found = {str(entry.label) for entry in read_table(table, label_field) if entry.label not in (None, "")}
    if not found:
        raise ValueError(f"{str(path)!r} holds no photograph with a label. {HOW}")
    alike = sorted(name for name in found if sum(canonical(name) == canonical(other) for other in found) > 1)
    if alike:
        raise ValueError(f"Class names must differ in more than case and underscores; {alike} do not. Rename the folders or labels.")
    return tuple(sorted(found, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


HOW = f"A folder holds class folders with images ({' '.join(SUFFIXES)}), or {' or '.join(TABLES)}."
"""How photographs are to be laid out, for errors."""
