"""Files that survive an interruption: lines that are appended one by one, and documents that are replaced at once."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def write_document(path: Path, content: Any) -> None:
    """Write JSON so that the file is either the old or the new one at every moment."""
    write_bytes(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old or the new one at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def append_line(path: Path, content: Any) -> None:
    """Append one line of JSON."""
    with path.open("ab") as file:
        file.write((json.dumps(content, ensure_ascii=False) + "\n").encode())


def read_lines(path: Path) -> list[Any]:
    """The lines of a file up to the first that is not whole: what an interrupted process had finished. The rest of the file is cut off."""
    if not path.is_file():
        return []
    content, lines, end = path.read_bytes(), [], 0
    for line in content.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            lines.append(json.loads(line))
        except ValueError:
            break
        end += len(line)
    if end < len(content):
        os.truncate(path, end)
    return lines


def plain(value: Any) -> Any:
    """Numbers as JSON holds them: floats to seven digits, which is all that float32 has; None for one that is not finite."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if value is None or isinstance(value, str | bool):
        return value
    array = np.asarray(value)
    if array.ndim:
        return [plain(inner) for inner in array.tolist()]
    number = array.item()
    return number if isinstance(number, int) else float(f"{number:.7g}") if math.isfinite(number) else None


def difference(old: Any, new: Any, place: str = "") -> list[str]:
    """Where two documents differ, as `place: old -> new`.

    Example:
        >>> difference({"a": 1, "b": {"c": [1]}}, {"a": 1, "b": {"c": [2]}})
        ['b.c: [1] -> [2]']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        names: Sequence[str] = sorted({*old, *new})
        return [line for name in names for line in difference(old.get(name), new.get(name), f"{place}.{name}" if place else name)]
    return [] if old == new else [f"{place}: {json.dumps(old)} -> {json.dumps(new)}"]
