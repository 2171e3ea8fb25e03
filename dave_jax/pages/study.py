"""`write_study`: a page that asks people which of two methods' maps of the same photograph and class is better.

DIR/index.html base.css study.css study.js      the page; it holds no name of a store or method
DIR/data.js                                     question, comparisons, the study's hash
DIR/pictures/0012.jpg 0040.png                  photographs and maps under numbers drawn at random
DIR.key.json                                    which picture is whose; beside the folder, for those who analyse

A participant's order of the comparisons, and which map is left, come from the study's hash, its seed and the participant's name: the page
draws them. Repeats are drawn from the first third and come again in the second half, with sides exchanged.
"""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dave_jax.batch.maps import Maps, open_maps
from dave_jax.evaluation.log import write_document
from dave_jax.pages.album import Album, open_album
from dave_jax.pages.folder import PICTURES, begin, check_folder, finish
from dave_jax.pages.items import Item, common_items, label_stores
from dave_jax.pages.pictures import heat_png, photo_jpeg

QUESTION = "Which map shows better where the picture looks like “{class}”?"
"""What is asked unless told otherwise."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """Two stores' maps of an item.

    Attributes:
        item: photograph and class.
        stores: their numbers.
    """

    item: Item
    stores: tuple[int, int]


def write_study(
    stores: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    question: str = QUESTION,
    trials: int = 100,
    repeats: float = 0.1,
    checks: int = 2,
    intersection: bool = False,
    source: Any = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Write the page of a study, and its key beside it.

    Args:
        stores: paths or URLs of two or more stores of maps, for the same photographs and classes.
        folder: for the page; new, empty, or a study, which is replaced.
        seed: of what is random.
        question: `{class}` stands for the class.
        trials: comparisons, at most; each pair of stores gets as many as the others, or one less.
        repeats: part of them asked twice, from 0 to 1/3, for the consistency of the answers.
        checks: tasks that say which side to choose, to find those who do not look.
        intersection: whether to take what all stores have, where they have not the same.
        source: where the photographs are now, or themselves, as for `explain_dataset`; default where the first store says.
        progress: show it on standard error.

    Returns:
        `study` (its hash), `key` (the file), `trials`, `repeats`, `checks`, and `left_out`: photographs that cannot be read, with the
        reason.

    Raises:
        FileNotFoundError: no store, or nothing where the photographs are said to be.
        ValueError: stores that do not fit each other, no photograph, settings out of range, or a folder or key of something else.
    """
    if len(stores) < 2 or trials < 1 or checks < 0 or not 0 <= repeats <= 1 / 3:
        found = f"{len(stores)}, {trials}, {checks} and {repeats:g}"
        raise ValueError(f"A study needs 2 or more stores, 1 or more trials, 0 or more checks, repeats from 0 to 1/3; got {found}.")
    folder = Path(folder)
    check_folder(folder, "study")
    places = [os.fspath(store) for store in stores]
    opened = {name: open_maps(place) for name, place in zip(label_stores(places), places, strict=True)}
    items = common_items(opened, intersection=intersection)
    first = next(iter(opened.values()))
    album = open_album(first.attributes, first.names, source)
    items, left_out = _readable(items, album, trials, seed)
    chosen = choose_trials(items, len(stores), trials, seed)
    settings = {
        "question": question,
        "seed": seed,
        "size": list(first.attributes["run"]["model"]["preprocessing"]["image_size"]),
        "repeats": round(repeats * len(chosen)),
        "checks": checks,
    }
    numbers = _numbers(chosen, seed)
    rows = [_row(trial, numbers) for trial in chosen]
    runs = {name: maps.attributes["run"] for name, maps in opened.items()}
    study = hashlib.sha256(json.dumps([settings, rows, runs], sort_keys=True).encode()).hexdigest()[:16]
    key = folder.with_name(f"{folder.name}.key.json")
    _check_key(key, study)
    begin(folder, "study", "Which map is better?")
    _draw(folder, numbers, list(opened.values()), album, progress)
    names = list(opened)
    pictures = {
        number: {"method": names[store], "photograph": item.name, "class": item.target}
        for (item, store), number in numbers.items()
        if store is not None
    }
    methods = {name: {"store": place, "run": runs[name]} for name, place in zip(names, places, strict=True)}
    write_document(key, {"study": study} | settings | {"methods": methods, "pictures": pictures, "trials": rows})
    finish(folder, {"study": study} | settings | {"trials": rows})
    counts = {"trials": len(chosen), "repeats": settings["repeats"], "checks": checks}
    return {"study": study, "key": str(key)} | counts | {"left_out": left_out}


def choose_trials(items: Sequence[Item], num_stores: int, count: int, seed: int) -> list[Trial]:
    """At most `count` comparisons: each pair of stores in turn, with the item that was used least so far, at random among equals."""
    draw = np.random.default_rng(seed)
    pairs = list(itertools.combinations(range(num_stores), 2))
    left = {pair: draw.permutation(len(items)).tolist() for pair in pairs}
    used = np.zeros(len(items), int)
    trials = []
    for number in range(min(count, len(pairs) * len(items))):
        pair = pairs[number % len(pairs)]
        item = min(left[pair], key=lambda one: used[one])
        left[pair].remove(item)
        used[item] += 1
        one, other = pair if draw.integers(2) else pair[::-1]  # the page's data tell nothing by their order either
        trials.append(Trial(items[item], (one, other)))
    return [trials[i] for i in draw.permutation(len(trials))]


def _readable(items: Sequence[Item], album: Album, count: int, seed: int) -> tuple[list[Item], dict[str, str]]:
    """`count` items, if there are so many, drawn from those whose photographs can be read; and why others could not."""
    good: list[Item] = []
    reasons: dict[str, str] = {}
    for number in np.random.default_rng(seed).permutation(len(items)).tolist():
        item = items[number]
        try:
            album.pixels(item.places[0][0], item.name)
            good.append(item)
        except ValueError as error:
            reasons[item.name] = str(error)
        if len(good) == count:
            break
    if not good:
        name, reason = next(iter(reasons.items()))
        raise ValueError(f"No photograph of the stores can be read ({name}: {reason}). Say where they are with --source.")
    return good, reasons


def _numbers(trials: Sequence[Trial], seed: int) -> dict[tuple[Item, int | None], str]:
    """The pictures of a study under random numbers: maps by item and store; photographs by their first item, with None for a store."""
    photos: dict[str, Item] = {}
    for trial in trials:
        photos.setdefault(trial.item.name, trial.item)
    shown = dict.fromkeys(
        [*((item, None) for item in photos.values()), *((trial.item, store) for trial in trials for store in trial.stores)]
    )
    order = np.random.default_rng([seed, 1]).permutation(len(shown)).tolist()
    return {picture: f"{number:04}" for picture, number in zip(shown, order, strict=True)}


def _row(trial: Trial, numbers: Mapping[tuple[Item, int | None], str]) -> dict[str, str]:
    photo = next(number for (item, store), number in numbers.items() if store is None and item.name == trial.item.name)
    one, other = (numbers[trial.item, store] for store in trial.stores)
    return {"class": trial.item.target, "photo": photo, "one": one, "other": other}


def _draw(folder: Path, numbers: Mapping[tuple[Item, int | None], str], stores: Sequence[Maps], album: Album, progress: bool) -> None:
    """Write the pictures, one after the other."""
    (folder / PICTURES).mkdir()
    for (item, store), number in tqdm(numbers.items(), unit="picture", disable=not progress):
        path = folder / PICTURES / number
        if store is None:
            path.with_suffix(".jpg").write_bytes(photo_jpeg(album.pixels(item.places[0][0], item.name)))
        else:
            index, place = item.places[store]
            path.with_suffix(".png").write_bytes(heat_png(stores[store][index].maps[place]))


def _check_key(key: Path, study: str) -> None:
    """Raise where answers to another study would lose their key."""
    if not key.exists():
        return
    try:
        other = json.loads(key.read_text(encoding="utf-8"))["study"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{str(key)!r} is no key of a study. Give another folder.") from error
    if other != study:
        raise ValueError(
            f"{str(key)!r} is the key of another study, {other}, which its answers need. Move it away, or give another folder."
        )
