"""timm's vision transformers of other classes than `VisionTransformer`: as timm saves and loads them, and as `load` reads the file."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import timm
import torch
from conv_twins import assert_close
from timm.models import save_for_hf
from torch_reference import logits_and_gradient, randomise

from dave_jax.models import hub
from dave_jax.models.model import Model, count_classes

SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}


@functools.cache
def _draw(height: int, width: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.standard_normal((2, height, width, 3), np.float32), draw.standard_normal((2, outputs), np.float32)


def compare(ours: Model, theirs: torch.nn.Module):
    """Logits to 1e-5 and input gradients to 1e-4, of the largest."""
    images, cotangents = _draw(*ours.preprocessing.image_size, count_classes(ours))
    logits, slopes = logits_and_gradient(theirs, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(cotangents))

    def explain(params, image, cotangent):
        value, pull = jax.vjp(lambda image: ours.forward(params, image, "gradient"), image)
        return value, pull(cotangent)[0]

    program = jax.jit(jax.vmap(explain, (None, 0, 0))).lower(ours.params, images, cotangents)
    values, gradients = program.compile({"xla_backend_optimization_level": 0})(ours.params, images, cotangents)
    assert_close(values, logits, 1e-5)
    assert_close(gradients, slopes.permute(0, 2, 3, 1), 1e-4)


def check_saved(name: str, folder: Path, *sizes: Any, small: Mapping[str, Any] = SMALL, **options: Any):
    """A random network of timm, saved by it: as `load` reads it and as timm does, at its own size and at others."""
    options = dict(small) | options
    own = options["img_size"]
    model = randomise(timm.create_model(name, **options), seed=sum(name.encode()))
    save_for_hf(model, folder, safe_serialization=True)
    compare(hub.load(folder), model)
    shape = own if isinstance(own, tuple) else (own, own)
    file = {"file": str(folder / "model.safetensors"), "num_classes": options["num_classes"], "input_size": (3, *shape)}
    for size in sizes:
        theirs = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=file, **options | {"img_size": size})
        compare(hub.load(folder, image_size=size), theirs.eval())
