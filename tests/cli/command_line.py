"""A tiny model and photographs for the tests of the command line."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

import dave_jax as dave
from dave_jax import testing

NAMES = ("tench", "church", "chain saw", "gas pump", "golf ball")


def named_model() -> dave.Model:
    return dataclasses.replace(testing.tiny_model(), class_names=NAMES, source="made up")


def write_photographs() -> None:
    """Into the working folder: two of one name, one of them grey, and two that are broken."""
    generator = np.random.default_rng(0)
    for name, shape in {"cat.png": (20, 30, 3), "other/cat.jpg": (40, 20, 3), "grey.png": (16, 16)}.items():
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, shape, np.uint8)).save(name)
    Path("text.jpg").write_text("not a photograph")
    Path("half.png").write_bytes(Path("cat.png").read_bytes()[:200])
