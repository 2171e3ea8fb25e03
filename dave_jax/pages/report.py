"""`write_report`: what `dave-jax batch` computed, as a gallery.

index.html base.css report.css report.js      the page
data.js                                       all numbers and names
pictures/000/000012.jpg                       photograph 12 as the model saw it
pictures/000/000012-0.png                     the map of its first target, transparent where there is no heat
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dave_jax.batch.layout import EXPLAINED, FAILED, PENDING
from dave_jax.batch.maps import Entry, open_maps
from dave_jax.evaluation.log import plain
from dave_jax.pages.album import Album, open_album
from dave_jax.pages.folder import PICTURES, begin, check_folder, finish
from dave_jax.pages.pictures import heat_png, photo_jpeg


def write_report(
    store: str | os.PathLike[str], folder: str | os.PathLike[str], *, source: Any = None, progress: bool = False
) -> dict[str, int]:
    """Write a store of maps as a folder of HTML that opens from a file; what is in a store that is not finished.

    Photographs are opened again, one after the other. Of those that are no longer there the page shows the maps alone, with the reason.

    Args:
        store: path or URL of what `explain_dataset` or `dave-jax batch` wrote.
        folder: for the page; new, empty, or a report, which is replaced.
        source: where the photographs are now, or themselves, as for `explain_dataset`; default where they were.
        progress: show it on standard error.

    Returns:
        The page's counts: `images`, `explained`, `failed`, `pending`, `lost` (explained, without a photograph).

    Raises:
        FileNotFoundError: there is no store, or nothing where the photographs are said to be.
        ValueError: the folder holds something else.

    Example:
        >>> import tempfile, jax, dave_jax as dave
        >>> with tempfile.TemporaryDirectory() as place:
        ...     photos = ["dave_jax/assets/photos/golf_ball.jpg"]
        ...     _ = dave.explain_dataset(dave.testing.tiny_model(), photos, f"{place}/maps.zarr", key=jax.random.key(0))
        ...     write_report(f"{place}/maps.zarr", f"{place}/report")
        {'images': 1, 'explained': 1, 'failed': 0, 'pending': 0, 'lost': 0}
    """
    folder, name = Path(folder), Path(os.fspath(store)).name
    check_folder(folder, "report")
    maps = open_maps(store)
    status, names = maps.status, maps.names
    album = open_album(maps.attributes, names, source)
    run, classes = maps.attributes["run"], maps.attributes["class_names"]
    begin(folder, "report", f"{run['model']['name']}: {name}")
    explained, lost = np.flatnonzero(status == EXPLAINED), {}
    shown = []
    for index in tqdm(explained.tolist(), unit="image", disable=not progress):
        entry = maps[index]
        lost |= _draw(folder, album, index, entry)
        shown.append(_row(index, entry, lost.get(index)))
    failed = {index: reason for index, reason in maps.reasons.items() if status[index] == FAILED}
    counts = {
        "images": len(maps),
        "explained": len(shown),
        "failed": len(failed),
        "pending": int(np.sum(status == PENDING)),
        "lost": len(lost),
    }
    used = sorted({target for row in shown for target in row["targets"]})
    data = {
        "title": f"{run['model']['name']}: {name}",
        "counts": counts,
        "size": list(run["model"]["preprocessing"]["image_size"]),
        "classes": {str(target): classes[target] if classes else f"class {target}" for target in used},
        "images": shown,
        "broken": [{"index": index, "name": names[index], "reason": reason} for index, reason in failed.items()],
        "problem": album.problem,
        "settings": _groups(run),
    }
    finish(folder, data)
    return counts


def stem(index: int) -> str:
    """Where the pictures of a photograph lie: a folder for each thousand.

    Example:
        >>> stem(1234)
        'pictures/001/001234'
    """
    return f"{PICTURES}/{index // 1000:03}/{index:06}"


def _draw(folder: Path, album: Album, index: int, entry: Entry) -> dict[int, str]:
    """Write the pictures of a photograph; returns why it has none, by its number."""
    place = folder / stem(index)
    place.parent.mkdir(parents=True, exist_ok=True)
    for number, heat in enumerate(entry.maps):
        place.with_name(f"{place.name}-{number}.png").write_bytes(heat_png(heat))
    try:
        pixels = album.pixels(index, entry.name)
    except ValueError as error:
        return {index: str(error)}
    place.with_name(f"{place.name}.jpg").write_bytes(photo_jpeg(pixels))
    return {}


def _row(index: int, entry: Entry, lost: str | None) -> dict[str, Any]:
    numbers = {
        "probabilities": entry.probabilities,
        "logits": entry.logits,
        "shares": entry.bias_shares,
        "completeness": entry.completeness,
    }
    row = {"index": index, "name": entry.name, "targets": entry.targets.tolist()} | {name: plain(value) for name, value in numbers.items()}
    return row if lost is None else row | {"lost": lost}


def _groups(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings of a run under headings."""
    model = dict(run["model"])
    network, preprocessing = model.pop("forward"), model.pop("preprocessing")
    explanation = {name: run[name] for name in ("method", "decomposition", "config", "settings") if name in run}
    rest = {name: value for name, value in run.items() if name not in ("model", *explanation)}
    settings = explanation.pop("config", None) or explanation.pop("settings")
    parts = {
        "Model": {name: value for name, value in model.items() if value != ""},
        "Run": rest,
        "Explanation": explanation | {name: value for name, value in settings.items() if name != "type"},
        "Photographs": preprocessing,
        "Network": network if isinstance(network, Mapping) else {"type": network},
    }
    return [{"title": title, "rows": _flat(part)} for title, part in parts.items()]


def _flat(settings: Mapping[str, Any], place: str = "") -> list[list[str]]:
    """Nested settings as names and values.

    Example:
        >>> _flat({"key": {"data": [0, 3]}, "dtype": "float16"})
        [['key.data', '0, 3'], ['dtype', 'float16']]
    """
    found = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{place}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
            found.append([f"{place}{name}", shown])
    return found
