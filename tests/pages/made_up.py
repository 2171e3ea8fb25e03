"""Stores that no model computed, and answers that nobody gave."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dave_jax.batch.layout import EXPLAINED, FAILED, Layout
from dave_jax.batch.listing import as_bytes, fingerprint, list_photographs, place_of
from dave_jax.batch.reading import REASON_BYTES
from dave_jax.batch.store import open_store
from dave_jax.evaluation.settings import as_json
from dave_jax.models.preprocess import Preprocessing
from dave_jax.pages.answers import COLUMNS

SIZE = (12, 16)
CLASSES = ("golf ball", "parachute", "<b>church</b>", "dog")
BATCH = 4


def make_photos(folder: Path, count: int) -> Path:
    """Photographs 000.png, 001.png, ... of one grey each, the first darkest."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (2 * SIZE[1], 2 * SIZE[0]), (i % 256,) * 3).save(folder / f"{i:03}.png")
    return folder


def make_store(
    path: Path,
    source: Any,
    *,
    seed: int = 0,
    targets: Sequence[int] = (0, 1),
    broken: Sequence[int] = (),
    batches: int | None = None,
    **run,
) -> Path:
    """A store of random maps; of photograph i the probability of its first target is `(i + 1) / (count + 1)`.

    Args:
        path: of the store.
        source: of the photographs.
        seed: of the maps.
        targets: class ids, the same for every photograph.
        broken: photographs that could not be explained.
        batches: that are finished; default all.
        run: more of what the run depends on.
    """
    photographs = list_photographs(source)
    count, k = len(photographs.names), len(targets)
    width = max(len(name.encode()) for name in photographs.names)
    preprocessing = Preprocessing(image_size=SIZE, crop_fraction=1.0)
    described = {
        "model": {"name": "made up", "source": "", "checksum": str(seed), "forward": {"type": "ViT", "config": {"depth": 2}}},
        "data": {"kind": photographs.kind, "images": count, "fingerprint": fingerprint(photographs)},
        "method": "Dave",
        "decomposition": "effective",
        "config": {"num_samples": 4},
        "targets": list(targets),
    }
    described["model"]["preprocessing"] = as_json(preprocessing)
    attributes = {"run": described | run, "class_names": list(CLASSES), "source": place_of(source)}
    store = open_store(str(path), Layout(count, k, SIZE, BATCH, width, "float16"), attributes)
    draw = np.random.default_rng(seed)
    for batch in range(store.num_batches if batches is None else batches):
        rows = np.arange(count)[store.rows(batch)]
        failed = np.isin(rows, list(broken))
        values = {
            "maps": draw.random((len(rows), k, *SIZE)).astype(np.float16),
            "target": np.tile(np.array(targets, np.int32), (len(rows), 1)),
            "logit": draw.normal(size=(len(rows), k)).astype(np.float32),
            "probability": ((rows + 1) / (count + 1))[:, None].astype(np.float32) * 0.5 ** np.arange(k, dtype=np.float32),
            "bias_share": draw.normal(0.5, 1.0, (len(rows), k)).astype(np.float32),
            "completeness": (1e-7 * draw.random((len(rows), k))).astype(np.float32),
            "name": np.stack([as_bytes(photographs.names[i], width) for i in rows]),
            "reason": np.stack([as_bytes("cannot be read" if one else "", REASON_BYTES) for one in failed]),
            "status": np.where(failed, FAILED, EXPLAINED).astype(np.uint8),
        }
        for name in ("maps", "logit", "probability", "bias_share", "completeness"):
            values[name][failed] = np.nan
        store.write(batch, values)
    return path


def write_answers(
    path: Path, key: dict, participant: str, choose: Callable[[str, str], bool], *, lazy: bool = False, seed: int = 0
) -> Path:
    """The file that the page would save: every comparison, repeats with exchanged sides, checks.

    Args:
        path: of the file.
        key: of the study.
        participant: name.
        choose: whether the method of the left map is preferred to that of the right.
        lazy: fails the checks.
        seed: of the order and the sides.
    """
    draw = np.random.default_rng(seed)
    trials = key["trials"]
    order = draw.permutation(len(trials)).tolist()
    flips = draw.integers(0, 2, len(trials))
    tasks = [("trial", i, bool(flips[i]), "") for i in order] + [("repeat", i, not flips[i], "") for i in order[: key["repeats"]]]
    tasks += [("check", order[0], False, "left")] * key["checks"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for position, (kind, trial, flip, asked) in enumerate(tasks, start=1):
            left, right = (trials[trial][side] for side in (("other", "one") if flip else ("one", "other")))
            methods = [key["pictures"][picture]["method"] for picture in (left, right)]
            chosen = ("right" if lazy else "left") if kind == "check" else "left" if choose(*methods) else "right"
            numbers = {"position": position, "trial": trial, "milliseconds": 1000 + position}
            texts = {"left": left, "right": right, "asked": asked, "chosen": chosen, "picture": left if chosen == "left" else right}
            row = {"study": key["study"], "seed": key["seed"], "participant": participant, "kind": kind, "time": "2030-01-01T00:00:00Z"}
            writer.writerow(row | numbers | texts)
    return path
