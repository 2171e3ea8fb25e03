"""Photographs in tar archives, as webdataset lays them out: found in one pass over the headers, read by their place in the file."""

import dataclasses
import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from dave_jax.evaluation.folders import DAMAGED, IMAGENETTE, SUFFIXES
from dave_jax.models.preprocess import decode_photo


@dataclasses.dataclass(frozen=True)
class Archives:
    """Members of tar archives.

    Attributes:
        names: paths inside the archive, behind the archive's name where there are several.
        labels: what `KEY.cls` says, or the name of the folder in the archive.
        paths: of the archives.
        places: archive, offset and size in bytes, of each member.
        translation: classes by label.
    """

    names: Sequence[str]
    labels: Sequence[str | None]
    paths: Sequence[Path]
    places: Sequence[tuple[int, int, int]]
    translation: Mapping[str, Any] = dataclasses.field(default_factory=lambda: IMAGENETTE)
    kind: str = "tar"

    def photo(self, index: int) -> Image.Image:
        """The photograph, read from its place in the archive."""
        archive, offset, size = self.places[index]
        with self.paths[archive].open("rb") as file:
            file.seek(offset)
            size = min(size, os.fstat(file.fileno()).st_size - offset)  # what a header says is reserved before it is read
            return decode_photo(io.BytesIO(file.read(size)), repr(self.names[index]))


def list_archives(paths: Sequence[Path]) -> Archives:
    """The photographs of archives, in their order there.

    Raises:
        ValueError: a file is no uncompressed tar archive.
    """
    names, labels, places = [], [], []
    for number, path in enumerate(paths):
        try:
            with tarfile.open(path, "r:") as archive:
                members = [member for member in archive if member.isfile()]
                classes = {_key(member.name): _text(archive, member) for member in members if member.name.endswith(".cls")}
        except DAMAGED as error:
            raise ValueError(f"{str(path)!r} is no uncompressed tar archive ({error}). Unpack or rebuild it.") from error
        for member in members:
            name = member.name.removeprefix("./")
            if name.lower().endswith(SUFFIXES) and not PurePosixPath(name).name.startswith("."):
                names.append(f"{path.name}/{name}" if len(paths) > 1 else name)
                labels.append(classes.get(_key(member.name), PurePosixPath(name).parent.name or None))
                places.append((number, member.offset_data, member.size))
    return Archives(names, labels, list(paths), places)


def _key(name: str) -> str:
    """What the files of one example have in common: the path up to the first dot of the file's name."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member)
    assert file is not None  # a regular file
    return file.read().decode(errors="replace").strip()
