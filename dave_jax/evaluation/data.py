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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import ExifTags, Image

from dave_jax.evaluation.folders import HOW, ClassFolders, class_folders, find, find_table
from dave_jax.evaluation.regions import boxes_to_region, mask_to_region
from dave_jax.evaluation.tables import Entry, read_table
from dave_jax.models.model import Model, canonical, count_classes
from dave_jax.models.preprocess import Preprocessing, decode_photo, load_photo

MASK_FRAME = Preprocessing(image_size=(224, 224), crop_fraction=0.875)
"""What a mask of 224 x 224 shows of its photograph, unless that is of this size itself: resized to 256, the centre cut out."""


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
        return decode_photo(io.BytesIO(self.content), repr(self.name))

    def region(self, preprocessing: Preprocessing) -> Bool[np.ndarray, "h w"]:
        """Where the object is, in a model's frame: the union of the boxes, or the mask where there are no boxes."""
        width, height = self.photo().size
        return _region((height, width), self.boxes, self.mask, preprocessing)


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
    table = find_table(path)
    problems: list[str] = []
    labels = _Labels(model, skip_unknown, problems)
    if table is None:
        photographs = list(_from_class_folders(class_folders(path), labels))
    else:
        photographs = list(_from_table(read_table(table, label_field), table.parent, labels))
    if problems:
        first, more = "; ".join(problems[:3]), f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"{str(path)!r} cannot be used: {first}{more}.")
    if not photographs:
        raise ValueError(f"{str(path)!r} holds no photograph with a label of the model. {HOW}")
    return photographs


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


def _from_class_folders(folders: ClassFolders, labels: _Labels) -> Iterator[Photograph]:
    known = {canonical(name) for name in labels.model.class_names or ()}
    for folder, name, content in folders.members:
        target = labels(folder if canonical(folder) in known else folders.names.get(folder, folder), "class folder")
        if target is not None:
            yield Photograph(name, target, content)


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
    turned, size = _of_image(file, lambda image: (image.getexif().get(ExifTags.Base.Orientation, 1) >= 5, image.size))
    height, width = size if turned else size[::-1]
    return bool(_region((height, width), boxes, mask, preprocessing).any())


def _region(size: tuple[int, int], boxes: Sequence[Sequence[float]], mask: Path | None, preprocessing: Preprocessing) -> np.ndarray:
    if boxes:
        return boxes_to_region(boxes, size, preprocessing)
    assert mask is not None  # only what is marked has a region
    if not mask.is_file():
        raise FileNotFoundError(f"there is no mask {str(mask)!r}")
    inside = _of_image(mask, lambda image: np.asarray(image.convert("L")))
    if inside.shape not in (size, MASK_FRAME.image_size):
        raise ValueError(
            f"a mask must have the shape of its photograph, {size}, or be {MASK_FRAME.image_size} in the frame of resize 256 and centre "
            f"crop 224; got {inside.shape}"
        )
    return mask_to_region(inside, size, preprocessing, frame=None if inside.shape == size else MASK_FRAME)


def _of_image(file: Path, read: Callable[[Image.Image], Any]) -> Any:
    try:
        with Image.open(file) as image:
            return read(image)
    except Exception as error:  # a damaged file can raise anything in a decoder
        raise ValueError(f"{str(file)!r} cannot be read as an image ({error})") from error


def fingerprint(photographs: Sequence[Photograph]) -> str:
    """Tells one data set from another: a hash of names, classes, boxes and sizes of files."""
    digest = hashlib.sha256()
    for photograph in photographs:
        size = photograph.content.stat().st_size if isinstance(photograph.content, Path) else len(photograph.content)
        masked = photograph.mask.stat().st_size if photograph.mask else None
        digest.update(repr((photograph.name, photograph.target, size, photograph.boxes, masked)).encode())
    return digest.hexdigest()[:16]
