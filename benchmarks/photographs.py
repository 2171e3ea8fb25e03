"""Photographs with known answers: their class, where the object is, and a choice of those that a model knows."""

import collections
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from dave_jax.models.model import Model
from dave_jax.models.preprocess import Photo, Preprocessing, load_photo
from dave_jax.training.imagenette import CLASSES, read_images

MASK_FRAME = Preprocessing(image_size=(224, 224), crop_fraction=0.875)
"""The frame of the masks of `labels.json`: resized to 256, the centre of 224 cut out."""


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph, the name of its class, and where the object is.

    `region` is a picture of the photograph's shape, white on the object; None where nobody has marked it.
    """

    name: str
    photo: Photo
    label: str
    region: Image.Image | None = None


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Photographs that a model knows, in its frame.

    Attributes:
        photographs: in order.
        images: normalised, (b, h, w, 3).
        targets: class ids (b,).
        probabilities: of the targets (b,).
        marked: which of them have a region.
        regions: of those, bool (marked, h, w).
    """

    photographs: list[Photograph]
    images: jax.Array
    targets: np.ndarray
    probabilities: np.ndarray
    marked: np.ndarray
    regions: np.ndarray


def from_folder(folder: Path, class_names: tuple[str, ...]) -> list[Photograph]:
    """The photographs of a folder with `labels.json` whose label is one of these classes."""
    entries = json.loads((folder / "labels.json").read_text())
    known = [entry for entry in entries if entry["label"] in class_names]
    return [Photograph(entry["file"], folder / entry["file"], entry["label"], _region(folder, entry)) for entry in known]


def from_imagenette(archive: Path, class_names: tuple[str, ...]) -> list[Photograph]:
    """The images of an Imagenette archive whose class is one of these."""
    names = list(CLASSES.values())
    pairs = zip(*read_images(archive), strict=True)
    return [Photograph(f"{archive.name}/{i}", image, names[label]) for i, (image, label) in enumerate(pairs) if names[label] in class_names]


def _region(folder: Path, entry: dict) -> Image.Image | None:
    """Where the object is: its boxes (x0, y0, x1, y1 in the file's pixels), or else its mask (in `MASK_FRAME`)."""
    if not entry.get("boxes") and not entry.get("mask"):
        return None
    width, height = load_photo(folder / entry["file"]).size
    if entry.get("boxes"):
        x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
        inside = np.zeros((height, width), bool)
        for left, top, right, bottom in entry["boxes"]:
            inside |= (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        return Image.fromarray(np.where(inside, 255, 0).astype(np.uint8))
    mask = Image.open(folder / entry["mask"]).convert("L")
    whole = Image.new("L", MASK_FRAME.resized(width, height))
    whole.paste(mask, tuple(round((edge - crop) / 2) for edge, crop in zip(whole.size, mask.size, strict=True)))
    return whole


def in_frame(regions: list[Image.Image], preprocessing: Preprocessing) -> np.ndarray:
    """Regions in a model's frame, bool (b, h, w): moved as the photographs are."""
    if not regions:
        return np.zeros((0, *preprocessing.image_size), bool)
    return dataclasses.replace(preprocessing, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))(regions)[..., 0] > 0.5


def in_turn(photographs: list[Photograph], seed: int) -> list[Photograph]:
    """Those with a region first; else one of every class by turns, in an order drawn with the seed."""
    shuffled = [photographs[i] for i in np.random.default_rng(seed).permutation(len(photographs))]
    seen = collections.Counter()

    def turn(photograph: Photograph) -> tuple[bool, int]:
        group = photograph.region is None, photograph.label
        seen[group] += 1
        return group[0], seen[group]

    return sorted(shuffled, key=turn)


def choose(photographs: list[Photograph], model: Model, count: int, confidence: float, seed: int) -> Chosen:
    """The first `count` that the model classifies rightly with at least that probability, among the first 4 `count` by turns."""
    candidates = in_turn(photographs, seed)[: 4 * count]
    if not candidates:
        raise ValueError("No photograph has a label that is one of the model's classes. Give photographs of classes that it knows.")
    images = model.preprocess([photograph.photo for photograph in candidates])
    targets = np.array([model.class_index(photograph.label) for photograph in candidates])
    chances = np.asarray(jax.nn.softmax(model.logits(images)))
    probabilities = chances[np.arange(len(targets)), targets]
    known = np.flatnonzero((chances.argmax(-1) == targets) & (probabilities >= confidence))[:count]
    if len(known) < count:
        raise ValueError(
            f"{count} photographs are needed that the model classifies rightly with probability >= {confidence}; "
            f"it does so with {len(known)} of {len(candidates)}. Ask for fewer, or lower the confidence."
        )
    photographs = [candidates[i] for i in known]
    marked = np.array([i for i, photograph in enumerate(photographs) if photograph.region is not None], int)
    regions = in_frame([photographs[i].region for i in marked], model.preprocessing)
    return Chosen(photographs, images[known], targets[known], probabilities[known], marked, regions)


def groups(targets: np.ndarray, size: int) -> list[list[int]]:
    """Indices in groups of `size` of distinct classes, each used once at most: always from the classes with most left."""
    left = collections.defaultdict(list)
    for i, target in enumerate(targets):
        left[int(target)].append(i)
    found = []
    while sum(bool(members) for members in left.values()) >= size:
        fullest = sorted(left, key=lambda target: -len(left[target]))[:size]
        found.append([left[target].pop(0) for target in fullest])
    return found
