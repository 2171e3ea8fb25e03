"""Tables of photographs: JSON or CSV, one form inside."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A photograph in a table.

    Attributes:
        file, mask: relative to the table.
        label: a class name or number; None if there is none.
        boxes: x0, y0, x1, y1 each.
    """

    file: str
    label: Any
    boxes: tuple[tuple[float, ...], ...] = ()
    mask: str | None = None


def read_table(path: Path, label_field: str) -> list[Entry]:
    """The entries of a `.json` or `.csv` file.

    Args:
        path: of the table.
        label_field: which field holds the label.

    Raises:
        ValueError: the file is no such table.
    """
    rows = _csv_rows(path) if path.suffix == ".csv" else read_json(path, list)
    fields = {field for row in rows for field in row}
    for needed in ("file", label_field):
        if needed not in fields:
            raise ValueError(f"{str(path)!r} needs a field {needed!r}; its fields are {sorted(fields)}.")
    return [_entry(row, label_field, path) for row in rows]


def _entry(row: Mapping[str, Any], label_field: str, path: Path) -> Entry:
    file, boxes, mask = row.get("file"), row.get("boxes") or [], row.get("mask") or None
    numbers = isinstance(boxes, list) and all(isinstance(box, list) and all(isinstance(edge, int | float) for edge in box) for box in boxes)
    if not isinstance(file, str) or not isinstance(mask, str | None) or not numbers:
        raise ValueError(
            f"An entry of {str(path)!r} has a file, a list of boxes [x0, y0, x1, y1] or none, a mask or none; got {dict(row)}."
        )
    return Entry(file, row.get(label_field), tuple(tuple(map(float, box)) for box in boxes), mask)


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    """Rows that differ in their box only are one."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, row in enumerate(read_csv(path), 2):
        box = [row.pop(edge, None) or None for edge in ("x0", "y0", "x1", "y1")]
        kept = found.setdefault(tuple(row.items()), row | {"boxes": []})
        if any(edge is not None for edge in box):
            try:
                kept["boxes"].append([float(str(edge)) for edge in box])
            except ValueError:
                raise ValueError(f"Line {number} of {str(path)!r} needs x0, y0, x1 and y1 as numbers, or none; got {box}.") from None
    return list(found.values())


def read_json(path: Path, kind: type) -> Any:
    """A list of objects, or one object.

    Raises:
        ValueError: something else.
    """
    return parse_json(path.read_bytes(), repr(str(path)), kind)


def parse_json(content: bytes, what: str, kind: type) -> Any:
    """A list of objects, or one object; `what` to call it in errors.

    Raises:
        ValueError: something else.
    """
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError) as error:  # brackets within brackets
        raise ValueError(f"{what} is not JSON ({error}). Write it again.") from error
    if not isinstance(found, kind) or (kind is list and not all(isinstance(entry, dict) for entry in found)):
        raise ValueError(f"{what} must hold {'a list of objects' if kind is list else 'one object'}.")
    return found


def read_csv(path: Path) -> list[dict[str, str | None]]:
    """The rows of a `.csv` file by the names in its first line; without empty ones.

    Raises:
        ValueError: it is not UTF-8, or no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a mark in front
            reader = csv.DictReader(file, strict=True)
            rows = []
            for row in reader:
                if None in row:
                    raise ValueError(f"line {reader.line_num} has more fields than the first")
                rows.append(row)
            if not reader.fieldnames or len(set(reader.fieldnames)) != len(reader.fieldnames):
                raise ValueError(f"the first line must name each column once; got {reader.fieldnames}")
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} is no CSV table in UTF-8 ({error}). Correct it, or write it again.") from error
    return rows
