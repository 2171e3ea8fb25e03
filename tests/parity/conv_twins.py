"""timm's convolutional networks and their conversions: what both compute, in double precision."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import timm
import torch
from timm.models import save_for_hf
from torch_reference import frozen, logits_and_gradient, randomise

from convert_weights.architectures import architectures
from convert_weights.config_json import describe
from dave_jax.models import hub, store
from dave_jax.models.families import FAMILIES


def assert_close(ours, theirs, tolerance: float):
    """Relative to the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all() and np.abs(theirs).max() > 1e-9
    assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


def options_of(family: str, options: dict[str, Any]):
    """The configuration and converter of a network of that family with these constructor options."""
    return describe({"architecture": family, "model_args": options})


def check_twins(family: str, model: torch.nn.Module, options: dict[str, Any], size: tuple[int, int], *, effective: bool = True):
    """Logits, gradient and effective transformation of a random image; exact weights on both sides, so that no ReLU may differ."""
    model = randomise(model, seed=3)
    read = options_of(family, options)
    params = jax.tree.map(lambda leaf: leaf.astype(np.float64), read.params({k: v.numpy().copy() for k, v in model.state_dict().items()}))
    network = FAMILIES[read.family].network(read.config)
    draw = np.random.default_rng(0)
    image = draw.standard_normal((*size, 3))
    theirs = {"gradient": model.double()} | ({"effective": frozen(model)} if effective else {})
    with torch.no_grad():
        cotangent = draw.standard_normal(model(torch.zeros(1, 3, *size, dtype=torch.float64)).shape[1])
    channels_first, on_logits = torch.from_numpy(image.transpose(2, 0, 1)[None].copy()), torch.from_numpy(cotangent[None])

    def explain(params, image):
        results = {}
        for name in theirs:
            logits, pull = jax.vjp(lambda image, name=name: network(params, image, name), image)
            results[name] = logits, pull(jnp.asarray(cotangent))[0]
        return results

    quickly = {"xla_backend_optimization_level": 0}  # the programs are small and run once
    ours = jax.jit(explain).lower(params, image).compile(quickly)(params, image)
    for name, twin in theirs.items():
        logits, slope = logits_and_gradient(twin, channels_first, on_logits)
        assert_close(ours[name][0], logits[0], 1e-10)
        assert_close(ours[name][1], slope[0].permute(1, 2, 0), 1e-10)


def kinds(family: str, sizes: set[str]) -> dict[str, str]:
    """One architecture that loads for each combination of options other than sizes."""
    found: dict[str, str] = {}
    for name, entry in architectures().items():
        if entry["family"] != family:
            continue
        try:
            describe({"architecture": name})
        except ValueError:
            continue
        kind = json.dumps({option: value for option, value in entry["options"].items() if option not in sizes}, sort_keys=True)
        found.setdefault(kind, name)
    return {name: kind for kind, name in found.items()}


def check_arrays(name: str, **small: Any):
    """timm's state dict of an architecture, made small, has the arrays that its options say."""
    with torch.device("meta"):
        model = timm.create_model(name, **small)
    arrays = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in model.state_dict().items()}
    describe({"architecture": name, "model_args": small}).params(arrays)  # it checks names and shapes


def check_saved(name: str, tmp_path, **options: Any):
    """What timm saves is what we load, and what we save."""
    model = randomise(timm.create_model(name, num_classes=5, **options), seed=1)
    save_for_hf(model, tmp_path / "timm", safe_serialization=True, model_config={"label_names": ["a", "b", "c", "d", "e"]})
    ours = hub.load(tmp_path / "timm", image_size=(64, 96))
    settings = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{tmp_path / 'timm'}"))
    preprocessing = hub.load(tmp_path / "timm").preprocessing
    assert (3, *preprocessing.image_size) == settings["input_size"]
    assert (preprocessing.mean, preprocessing.std) == (tuple(settings["mean"]), tuple(settings["std"]))
    assert (preprocessing.crop_fraction, preprocessing.crop_mode) == (settings["crop_pct"], settings["crop_mode"])
    assert ours.class_names == ("a", "b", "c", "d", "e")
    images = np.random.default_rng(0).standard_normal((2, 64, 96, 3), np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    logits = ours.logits(images)
    assert_close(logits, expected, 1e-5)
    store.save(ours, tmp_path / "ours")
    again = hub.load(tmp_path / "ours")
    assert dataclasses.replace(again, params=None, source="", config=ours.config) == dataclasses.replace(ours, params=None, source="")
    np.testing.assert_array_equal(again.logits(images), logits)
