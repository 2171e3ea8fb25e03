"""Photographs with known answers: `read` takes a folder of class folders, a table (JSON or CSV) or an archive, and checks all of it.

    DATA/church/1.jpg                                             a folder for each class: its name, or its number in the model
    DATA/labels.json   [{"file", "label", "boxes", "mask"}, ...]   boxes [[x0, y0, x1, y1], ...] in the file's pixels, upright
    DATA.csv           file,label,x0,y0,x1,y1,mask                 a row for each box
    DATA.tar           class folders in an archive

Class folders with other names than the model's or Imagenette's are translated by `classes.json` beside them: {folder: name or number}.
"""

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import ExifTags, Image

from dave_jax.evaluation.regions import boxes_to_region, mask_to_region
from dave_jax.evaluation.tables import Entry, read_json, read_table
from dave_jax.models.model import Model, count_classes
from dave_jax.models.preprocess import Preprocessing, load_photo

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

MASK_FRAME = Preprocessing(image_size=(224, 224), crop_fraction=0.875)
"""What a mask of 224 x 224 shows of its photograph, unless that is of this size itself: resized to 256, the centre cut out."""

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_TABLES = ("labels.json", "labels.csv")
_CLASSES = "classes.json"


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph, its class, and where the object is if that is known.

    Attributes:
        name: its path in the data; no two are equal.
        target: class id.
        content: the file, or its bytes.
        boxes: around the object, in pixels.
        mask: a file, white on the object.
    """

    name: str
    target: int
    content: Path | bytes
    boxes: tuple[tuple[float, ...], ...] = ()
    mask: Path | None = None

    @property
    def marked(self) -> bool:
        """Whether it is known where the object is."""
        return bool(self.boxes) or self.mask is not None

    def photo(self) -> Image.Image:
        """The photograph, upright."""
        if isinstance(self.content, Path):
            return load_photo(self.content)
        try:
            return load_photo(Image.open(io.BytesIO(self.content)))
        except OSError as error:
            raise ValueError(f"{self.name!r} cannot be read as a photograph ({error}).") from error

    def region(self, preprocessing: Preprocessing) -> Bool[np.ndarray, "h w"]:
        """Where the object is, in a model's frame: the union of the boxes, or the mask where there are no boxes."""
        width, height = self.photo().size
        return _region((height, width), self.boxes, self.mask, preprocessing)


def find(path: str | Path) -> Path:
    """The path of a data set.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no data {str(path)!r}. Give an image folder with class folders, a JSON or CSV file, or a .tar.")
    return Path(path)


def read(path: str | Path, model: Model, *, label_field: str = "label", skip_unknown: bool = False) -> list[Photograph]:
    """All photographs of a folder, table or archive, checked.

    Args:
        path: see the module.
        model: whose classes the labels are.
        label_field: the column of a table that holds the label. Photographs without a label are left out.
        skip_unknown: leave out photographs of classes that the model does not know.

    Raises:
        FileNotFoundError: nothing is there, or a file that a table names is missing.
        ValueError: an unknown class, a box outside its photograph, a mask of another size, or no photograph; the message counts the
            problems and shows the first ones.
    """
    path = find(path)
    table = next((path / name for name in _TABLES if (path / name).is_file()), None) if path.is_dir() else path
    problems: list[str] = []
    labels = _Labels(model, skip_unknown, problems)
    if table is None:
        photographs = list(_from_class_folders(_folder_members(path), _translation(path / _CLASSES), labels))
    elif table.suffix == ".tar":
        photographs = list(_from_archive(table, labels))
    elif table.suffix in (".json", ".csv"):
        photographs = list(_from_table(read_table(table, label_field), table.parent, labels))
    else:
        raise ValueError(f"Data is a folder, a .json, .csv or .tar file; got {str(path)!r}.")
    if problems:
        first, more = "; ".join(problems[:3]), f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"{str(path)!r} cannot be used: {first}{more}.")
    if not photographs:
        raise ValueError(f"{str(path)!r} holds no photograph with a label of the model. {_HOW}")
    return photographs


_HOW = f"A folder holds class folders with images ({' '.join(_SUFFIXES)}), or {' or '.join(_TABLES)}."


class _Labels:
    """From labels to class ids; what is unknown becomes a problem, once."""

    def __init__(self, model: Model, skip_unknown: bool, problems: list[str]):
        self.model, self.skip_unknown, self.problems = model, skip_unknown, problems
        self.count = count_classes(model)
        self.known: dict[str, int | None] = {}

    def __call__(self, name: Any, what: str) -> int | None:
        name = str(name)
        if name not in self.known:
            self.known[name] = self._find(name, what)
        return self.known[name]

    def _find(self, name: str, what: str) -> int | None:
        try:
            target = self.model.class_index(name)
            if target >= self.count:
                raise ValueError(f"class numbers end at {self.count - 1}")
        except ValueError as error:
            if not self.skip_unknown:
                reason = str(error).partition("got ")[2].partition(". ")[2].rstrip(".") or str(error)
                self.problems.append(f"{what} {name!r} is none of the model's classes ({reason})")
            return None
        return target


def _folder_members(folder: Path) -> Iterator[tuple[str, str, Path]]:
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            files = sorted(file for file in child.rglob("*") if file.suffix.lower() in _SUFFIXES)
            yield from ((child.name, file.relative_to(folder).as_posix(), file) for file in files)


def _translation(file: Path) -> Mapping[str, Any]:
    return IMAGENETTE | (read_json(file, dict) if file.is_file() else {})


def _from_class_folders(
    members: Iterable[tuple[str, str, Path | bytes]], translation: Mapping[str, Any], labels: _Labels
) -> Iterator[Photograph]:
    for folder, name, content in members:
        own = folder.lower().replace("_", " ") in {known.lower().replace("_", " ") for known in labels.model.class_names or ()}
        target = labels(folder if own else translation.get(folder, folder), "class folder")
        if target is not None:
            yield Photograph(name, target, content)


def _from_archive(path: Path, labels: _Labels) -> Iterator[Photograph]:
    try:
        with tarfile.open(path) as archive:
            files = {member.name.removeprefix("./"): member for member in archive.getmembers() if member.isfile()}
            content = {name: archive.extractfile(files[name]).read() for name in sorted(files)}  # pyright: ignore[reportOptionalMemberAccess] files
    except tarfile.TarError as error:
        raise ValueError(f"{str(path)!r} is no tar archive ({error}).") from error
    translation = IMAGENETTE | (json.loads(content[_CLASSES]) if _CLASSES in content else {})
    members = ((Path(name).parent.name, name, data) for name, data in content.items() if Path(name).suffix.lower() in _SUFFIXES)
    yield from _from_class_folders(members, translation, labels)


def _from_table(entries: Iterable[Entry], folder: Path, labels: _Labels) -> Iterator[Photograph]:
    taken: dict[str, list[int]] = {}
    for entry in entries:
        if entry.label in (None, "") or (target := labels(entry.label, "label")) is None:
            continue
        name = f"{entry.file}#{entry.label}" if entry.file in taken else entry.file
        if target in taken.setdefault(entry.file, []):
            labels.problems.append(f"{entry.file!r} is listed twice with label {entry.label!r}: put its boxes into one entry")
        taken[entry.file].append(target)
        mask = folder / entry.mask if entry.mask else None
        try:
            marked = _is_marked(folder / entry.file, entry.boxes, mask, labels.model.preprocessing)
        except (ValueError, OSError) as error:
            labels.problems.append(f"{entry.file}: {str(error).rstrip('.')}")
            continue
        yield Photograph(name, target, folder / entry.file, entry.boxes if marked else (), mask if marked else None)


def _is_marked(file: Path, boxes: Sequence[Sequence[float]], mask: Path | None, preprocessing: Preprocessing) -> bool:
    """Whether boxes or mask leave anything of the object in a model's frame. Raises if they do not fit the photograph."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {str(file)!r}")
    if not boxes and mask is None:
        return False
    with Image.open(file) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        height, width = image.size if turned else image.size[::-1]
    return bool(_region((height, width), boxes, mask, preprocessing).any())


def _region(size: tuple[int, int], boxes: Sequence[Sequence[float]], mask: Path | None, preprocessing: Preprocessing) -> np.ndarray:
    if boxes:
        return boxes_to_region(boxes, size, preprocessing)
    assert mask is not None  # only what is marked has a region
    if not mask.is_file():
        raise FileNotFoundError(f"there is no mask {str(mask)!r}")
    with Image.open(mask) as image:
        inside = np.asarray(image.convert("L"))
    if inside.shape not in (size, MASK_FRAME.image_size):
        raise ValueError(
            f"a mask must have the shape of its photograph, {size}, or be {MASK_FRAME.image_size} in the frame of resize 256 and centre "
            f"crop 224; got {inside.shape}"
        )
    return mask_to_region(inside, size, preprocessing, frame=None if inside.shape == size else MASK_FRAME)


def fingerprint(photographs: Sequence[Photograph]) -> str:
    """Tells one data set from another: a hash of names, classes, boxes and sizes of files."""
    digest = hashlib.sha256()
    for photograph in photographs:
        size = photograph.content.stat().st_size if isinstance(photograph.content, Path) else len(photograph.content)
        masked = photograph.mask.stat().st_size if photograph.mask else None
        digest.update(repr((photograph.name, photograph.target, size, photograph.boxes, masked)).encode())
    return digest.hexdigest()[:16]
