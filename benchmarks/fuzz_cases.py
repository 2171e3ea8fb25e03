"""A case of `fuzz.py`: files, what is known of the answer, and whether reading them ended well.

A check returns normally only where the answer is right; an error is told apart by its class, and must name the file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st


class Wrong(Exception):
    """Neither a clear error nor a right answer."""


class Case(NamedTuple):
    """Files to write, and what is known of the answer.

    Attributes:
        files: content by name.
        same_as: what the answer must equal, where the change does not touch it; else None.
        seed: of what valid file it was made.
    """

    files: dict[str, bytes]
    same_as: Any = None
    seed: str = ""


class Kind(NamedTuple):
    """Of input.

    Attributes:
        cases: a strategy.
        check: reads what was written to a folder; raises the reader's errors, or `Wrong`.
    """

    cases: st.SearchStrategy[Case]
    check: Callable[[Path, Case], None]


ACCEPTED = (ValueError, TypeError, OSError)
"""Errors that a reader may raise."""


def outcome(kind: Kind, folder: Path, case: Case) -> str:
    """`right`, the class of a clear error, or `WRONG: ...`."""
    for file in folder.iterdir():
        file.unlink()
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    try:
        kind.check(folder, case)
    except Wrong as error:
        return f"WRONG: {error}"
    except ACCEPTED as error:
        if not any(name in str(error) for name in (*case.files, str(folder))):
            return f"WRONG: names no file: {type(error).__name__}: {str(error)[:300]}"
        return next(known.__name__ for known in (FileNotFoundError, *ACCEPTED) if isinstance(error, known))
    except Exception as error:
        return f"WRONG: {type(error).__name__}: {str(error)[:300]}"
    return "right"
