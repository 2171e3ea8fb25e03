"""Photographs of coloured squares, labelled as a tiny model sees them."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image

import dave_jax as dave

CLASSES = ("ant", "bee", "cat", "dog", "sea elk")


def make(folder: Path, count: int = 40) -> dave.Model:
    """Write `count` photographs of 20 x 18 pixels and a `labels.json`, a box for every second; returns a model that uses all classes."""
    colours = np.random.default_rng(0).integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)
    pictures = [Image.fromarray(colour).resize((20, 18), Image.Resampling.BICUBIC) for colour in colours]
    model = dataclasses.replace(dave.testing.tiny_model(), class_names=CLASSES, source="made up")
    logits = model.logits(model.preprocess(pictures))
    middle = jnp.mean(logits, axis=0)  # without it every picture is of one class
    head = model.params["head"] | {"bias": model.params["head"]["bias"] - middle}
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for i, target in enumerate(np.argmax(logits - middle[None], axis=-1)):
        pictures[i].save(folder / f"{i}.png")
        entries.append({"file": f"{i}.png", "label": CLASSES[target], "boxes": [[0, 0, 10, 18]] if i % 2 else None})
    (folder / "labels.json").write_text(json.dumps(entries))
    return dataclasses.replace(model, params=model.params | {"head": head})
