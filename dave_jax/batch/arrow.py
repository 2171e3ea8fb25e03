"""A Hugging Face dataset on disk (Arrow files), by the package `datasets`."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from dave_jax.batch.extras import need
from dave_jax.evaluation.folders import IMAGENETTE
from dave_jax.models.preprocess import decode_photo


@dataclasses.dataclass(frozen=True)
class ArrowDataset:
    """Rows of a dataset that `save_to_disk` wrote.

    Attributes:
        path: its folder.
        column: which one holds the images.
        names: the rows' numbers.
        labels: class names, or numbers as text; None where there is no such column.
    """

    path: Path
    column: str
    names: Sequence[str]
    labels: Sequence[str | None]
    translation: Mapping[str, Any] = dataclasses.field(default_factory=lambda: IMAGENETTE)
    kind: str = "dataset"

    @cached_property
    def rows(self) -> Any:
        """The open dataset, with encoded images."""
        return _encoded(_open(self.path), self.column)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # without what is open

    def photo(self, index: int) -> Image.Image:
        """The image of a row, decoded."""
        found = self.rows[index][self.column]
        if found is None:
            raise ValueError(f"row {index} has no image")
        file = Path(found["path"]) if found["bytes"] is None else io.BytesIO(found["bytes"])
        return decode_photo(file, f"row {index}")


def _open(path: Path) -> Any:
    return need("datasets", "datasets").load_from_disk(str(path))


def _encoded(rows: Any, column: str) -> Any:
    return rows.cast_column(column, need("datasets", "datasets").Image(decode=False))


def list_dataset(path: Path) -> ArrowDataset:
    """The rows of a dataset on disk: its first column of images, and its column of classes, if there is one.

    Raises:
        ModuleNotFoundError: `datasets` is not installed.
        ValueError: there is no column of images.
    """
    rows = _open(path)
    kinds = {name: type(feature).__name__ for name, feature in rows.features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    if not images:
        raise ValueError(f"{str(path)!r} has no column of images; its columns are {kinds}.")
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"] or [name for name in ("label", "target") if name in kinds]
    labels: Sequence[str | None] = [None] * len(rows)
    if classes:
        feature = rows.features[classes[0]]
        values = rows.select_columns(classes[0])[classes[0]]
        as_name = feature.int2str if hasattr(feature, "int2str") else str
        labels = [None if value in (None, -1) else as_name(value) for value in values]
    return ArrowDataset(path, images[0], [str(i) for i in range(len(rows))], labels)
