"""A small collection that the benchmarks take for real."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import dave_jax as dave

CLASSES = ("ant", "bee", "cat", "dog", "elk")


@pytest.fixture
def collection(tmp_path):
    """A tiny model, stored, and a folder of photographs labelled as it sees them, half of them with a box."""
    colours = np.random.default_rng(0).integers(0, 256, (60, 2, 2, 3), dtype=np.uint8)
    pictures = [Image.fromarray(colour).resize((20, 18), Image.Resampling.BICUBIC) for colour in colours]
    model = dataclasses.replace(dave.testing.tiny_model(), class_names=CLASSES)
    logits = model.logits(model.preprocess(pictures))
    middle = jnp.mean(logits, axis=0)  # without it every picture is of one class
    head = model.params["head"] | {"bias": model.params["head"]["bias"] - middle}
    dave.save(dataclasses.replace(model, params=model.params | {"head": head}), tmp_path / "model")
    entries = []
    for i, target in enumerate(np.argmax(logits - middle[None], axis=-1)):
        pictures[i].save(tmp_path / f"{i}.png")
        entries.append({"file": f"{i}.png", "label": CLASSES[target], "boxes": [[0, 0, 10, 18]] if i % 2 else None})
    entries.append({"file": "missing.png", "label": "yak", "boxes": None})  # not one of the model's classes: never opened
    (tmp_path / "labels.json").write_text(json.dumps(entries))
    return tmp_path
