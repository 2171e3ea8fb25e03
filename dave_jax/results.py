"""The files of an explanation: how they are named, and what they hold."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dave_jax.models.model import Model
from dave_jax.plot import overlay, panel

_TOP = 5


def output_paths(photos: Sequence[str], directory: Path, suffix: str) -> list[dict[str, Path]]:
    """Where the results of each photograph go: named by its stem, and numbered where another photograph's files would be overwritten.

    Args:
        photos: paths, in the order that decides the numbers.
        directory: for the results.
        suffix: of the map, `.npz` or `.npy`.

    Returns:
        For each photograph the paths `overlay`, `panel` and `map`.

    Example:
        >>> [paths["map"].name for paths in output_paths(["a/cat.jpg", "b/cat.png"], Path("maps"), ".npz")]
        ['cat.npz', 'cat-2.npz']
    """
    taken = {_canonical(Path(photo)) for photo in photos}
    return [_free_paths(Path(photo).stem, directory, suffix, taken) for photo in photos]


def _free_paths(stem: str, directory: Path, suffix: str, taken: set[str]) -> dict[str, Path]:
    """The first paths of which none is taken; they then are."""
    number = 1
    while True:
        base = stem if number == 1 else f"{stem}-{number}"
        names = {"overlay": f"{base}.overlay.png", "panel": f"{base}.panel.png", "map": f"{base}{suffix}"}
        paths = {kind: directory / name for kind, name in names.items()}
        if taken.isdisjoint(map(_canonical, paths.values())):
            taken.update(map(_canonical, paths.values()))
            return paths
        number += 1


def _canonical(path: Path) -> str:
    return str(path.resolve()).casefold()  # file systems may not tell cases apart


def describe(model: Model, photo: str, logits: Float[np.ndarray, " classes"], targets: Sequence[int]) -> dict[str, Any]:
    """The prediction for a photograph, for JSON: `photo`, the five first `predictions`, and the `targets`, each with its probability."""
    odds = np.exp(logits.astype(float) - logits.max())
    probabilities = odds / odds.sum()

    def classes(indices: Any) -> list[dict[str, Any]]:
        return [{"class": int(i), "name": model.class_name(int(i)), "probability": float(probabilities[i])} for i in indices]

    return {"photo": photo, "predictions": classes(np.argsort(-logits, kind="stable")[:_TOP]), "targets": classes(targets)}


def as_text(result: Mapping[str, Any]) -> str:
    """What `describe` gave, with its files, as lines for a terminal."""
    predicted, explained = ({row["class"] for row in result[kind]} for kind in ("predictions", "targets"))
    rows = result["predictions"] + [row for row in result["targets"] if row["class"] not in predicted]
    marks = ["  <- explained" if row["class"] in explained else "" for row in rows]
    lines = [f"  {row['probability']:6.1%}  {row['name']} ({row['class']}){mark}" for row, mark in zip(rows, marks, strict=True)]
    return "\n".join([result["photo"], *lines, f"  wrote {', '.join(result['files'].values())}"])


def write(
    paths: Mapping[str, Path],
    maps: Float[np.ndarray, "k h w"],
    pixels: Float[np.ndarray, "h w 3"],
    result: Mapping[str, Any],
    provenance: Mapping[str, Any],
    file: Path | None = None,
) -> None:
    """Write overlay, panel and map of one photograph.

    Args:
        paths: from `output_paths`; the map's suffix decides its format. `.npz` holds, besides the map, `target`, `target_name`,
            `probability`, `pixels` (uint8) and `provenance` (JSON, with the photograph's SHA-256), and loads without pickle.
        maps: heat maps of the targets.
        pixels: the photograph as the model saw it, in [0, 1].
        result: what `describe` gave.
        provenance: what else the map depends on.
        file: of the photograph, where `result` calls it by another name.
    """
    targets = result["targets"]
    paths["map"].parent.mkdir(parents=True, exist_ok=True)
    overlay(pixels, maps[0]).save(paths["overlay"])
    panel(pixels, maps, [f"{target['name']} {target['probability']:.1%}" for target in targets]).save(paths["panel"])
    if paths["map"].suffix == ".npy":
        np.save(paths["map"], maps)
        return
    digest = hashlib.sha256((file or Path(result["photo"])).read_bytes()).hexdigest()
    np.savez_compressed(
        paths["map"],
        map=maps,
        target=np.array([target["class"] for target in targets]),
        target_name=np.array([target["name"] for target in targets]),
        probability=np.array([target["probability"] for target in targets]),
        pixels=np.round(255 * pixels).astype(np.uint8),
        provenance=np.array(json.dumps({**provenance, "photo": result["photo"], "photo_sha256": digest})),
    )
