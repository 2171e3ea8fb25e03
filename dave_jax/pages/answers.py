"""Answers to a study: the CSV files that participants save, checked against the study's key."""

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = (
    *("study", "seed", "participant", "position", "kind", "trial", "left", "right", "asked", "chosen", "picture", "milliseconds", "time"),
)
"""Of the files."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One choice.

    Attributes:
        participant: who.
        position: which of the participant's tasks, from 1.
        kind: `trial`, `repeat`, or `check`, which asked for a side.
        trial: number of the comparison in the key.
        left, right: the pictures.
        asked: the side that a check asked for; else empty.
        chosen: `left` or `right`.
        milliseconds: from the moment when the pictures were there.
    """

    participant: str
    position: int
    kind: str
    trial: int
    left: str
    right: str
    asked: str
    chosen: str
    milliseconds: int

    @property
    def picture(self) -> str:
        """The map that was chosen."""
        return self.left if self.chosen == "left" else self.right

    @property
    def other(self) -> str:
        """The map that was not."""
        return self.right if self.chosen == "left" else self.left


def read_key(path: Path | None, answers: Sequence[Path]) -> dict[str, Any]:
    """The key of a study; without a path, the `*.key.json` in the working folder that is of the study that the files answer.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no key.
    """
    if path is not None:
        return _key(path)
    study = next((row["study"] for answer in answers for row in _rows(answer)), None)
    if study is None:
        raise ValueError("There are no answers in these files.")
    for candidate in sorted(Path().glob("*.key.json")):
        found = _key(candidate)
        if found["study"] == study:
            return found
    raise FileNotFoundError(f"No *.key.json here is that of study {study}, to which these are answers. Name it with --key.")


def read_answers(paths: Sequence[Path], key: Mapping[str, Any]) -> list[Answer]:
    """All answers, by participant and position; those that stand in several files count once.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: no answers, those to another study, or a participant with two answers to the same task.
    """
    found: dict[tuple[str, int], Answer] = {}
    for path in paths:
        for line, row in enumerate(_rows(path), start=2):
            answer = _answer(row, key, f"{path}, line {line}")
            place = answer.participant, answer.position
            if found.setdefault(place, answer) != answer:
                raise ValueError(
                    f"{path}, line {line}: participant {answer.participant!r} answered task {answer.position} otherwise in another file. "
                    "Give one of the two another name, in its file."
                )
    if not found:
        raise ValueError("There are no answers in these files.")
    return [found[place] for place in sorted(found)]


def _key(path: Path) -> dict[str, Any]:
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        if {"study", "methods", "pictures", "trials"} <= set(key):
            return key
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no key {str(path)!r}. `dave-jax study` writes it beside the study's folder.") from None
    except (ValueError, TypeError):
        pass
    raise ValueError(f"{str(path)!r} is no key of a study. Give the one beside the study's folder.")


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a mark in front
            reader = csv.DictReader(file)
            lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if lacking:
                raise ValueError(f"{str(path)!r} holds no answers to a study: it lacks the columns {', '.join(lacking)}.")
            return list(reader)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {str(path)!r}. Check the path of the answers.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} is no CSV file ({error}).") from error


def _answer(row: Mapping[str, str], key: Mapping[str, Any], place: str) -> Answer:
    if row["study"] != key["study"]:
        raise ValueError(f"{place}: an answer to study {row['study']!r}; the key is that of {key['study']!r}. Sort the files by study.")
    try:
        answer = Answer(
            participant=row["participant"],
            position=int(row["position"]),
            kind=row["kind"],
            trial=int(row["trial"]),
            left=row["left"],
            right=row["right"],
            asked=row["asked"],
            chosen=row["chosen"],
            milliseconds=int(row["milliseconds"]),
        )
        trial = key["trials"][answer.trial] if answer.trial >= 0 else {}
        whole = {answer.left, answer.right} == {trial.get("one"), trial.get("other")} and answer.picture == row["picture"]
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{place}: not an answer as the study's page writes it ({error}).") from error
    sides = ("left", "right")
    if not whole or answer.chosen not in sides or answer.asked not in (sides if answer.kind == "check" else ("",)):
        raise ValueError(f"{place}: not an answer as the study's page writes it; the file was changed.")
    if answer.kind not in ("trial", "repeat", "check"):
        raise ValueError(f"{place}: a task is a trial, a repeat or a check; got {answer.kind!r}.")
    return answer
