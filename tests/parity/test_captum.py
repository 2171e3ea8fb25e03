"""Baselines against captum's on small random timm vision transformers: 1e-4 of the largest value.

Logits are compared first. SmoothGrad's noise is ours on both sides: captum's draws are replaced.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("captum")

import captum.attr as attr
import torch
from timm.models.vision_transformer import VisionTransformer
from torch_reference import randomise

from convert_weights.timm import config_from_options, params_from_arrays
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.baselines.integrated_gradients import IntegratedGradients
from dave_jax.attribution.baselines.occlusion import Occlusion
from dave_jax.attribution.baselines.smoothgrad import SmoothGrad
from dave_jax.attribution.inputs import image_id
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.vit import ViT

pytestmark = pytest.mark.parity

OPTIONS: dict[str, Any] = dict(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=5)
KEY = jax.random.key(7)
TARGETS = [2, 4]


@functools.cache
def twins() -> tuple[torch.nn.Module, Model]:
    theirs = randomise(VisionTransformer(**OPTIONS), seed=11).eval()
    config = config_from_options(OPTIONS)
    params = params_from_arrays({name: value.numpy() for name, value in theirs.state_dict().items()}, config)
    return theirs, Model(jax.device_put(params), ViT(config), preprocessing=Preprocessing(image_size=config.image_size))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((2, 16, 16, 3), np.float32)


def as_torch(images) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(np.asarray(images), -1, 1).copy())


def as_map(attribution: torch.Tensor) -> np.ndarray:
    """Captum's attributions (b, 3, h, w), channels summed."""
    return attribution.detach().numpy().sum(1)


def assert_same(ours, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    for one, other in zip(np.asarray(ours), theirs, strict=True):
        assert np.abs(one - other).max() < 1e-4 * np.abs(other).max()


def test_logits(images):
    theirs, model = twins()
    with torch.no_grad():
        expected = theirs(as_torch(images)).numpy()
    assert np.abs(model.logits(images) - expected).max() < 1e-5 * np.abs(expected).max()


def test_input_times_gradient(images):
    theirs, model = twins()
    expected = attr.InputXGradient(theirs).attribute(as_torch(images).requires_grad_(), target=TARGETS)
    assert_same(InputTimesGradient()(model, images, TARGETS, raw=True), as_map(expected))


@pytest.mark.parametrize(("num_steps", "baseline"), [(50, 0.0), (5, "image")])
def test_integrated_gradients(num_steps, baseline, images):
    """With the few steps the two agree on the rule's error too."""
    theirs, model = twins()
    given = images[::-1].mean(0) if baseline == "image" else baseline
    options = {"baselines": as_torch(given[None]) if baseline == "image" else baseline, "n_steps": num_steps, "method": "gausslegendre"}
    expected = attr.IntegratedGradients(theirs).attribute(as_torch(images), target=TARGETS, **options)
    assert_same(IntegratedGradients(num_steps=num_steps, baseline=given)(model, images, TARGETS, raw=True), as_map(expected))


@pytest.mark.parametrize(("kind", "theirs_kind"), [("gradient", "smoothgrad"), ("times_input", "smoothgrad"), ("square", "smoothgrad_sq")])
def test_smoothgrad(kind, theirs_kind, images, monkeypatch):
    theirs, model = twins()
    count, sigma, image = 4, 0.15, images[:1]
    keys = [jax.random.fold_in(jax.random.fold_in(KEY, image_id(jnp.asarray(image[0]))), i) for i in range(count)]
    noise = np.stack([jax.random.normal(jax.random.split(key)[1], image.shape[1:]) for key in keys])
    stdev = sigma * float(image.max() - image.min())
    drawn = []

    def normal(mean, std):
        assert mean == 0 and std.shape == (count, 3, 16, 16)
        drawn.append(std)
        return std * as_torch(noise)

    monkeypatch.setattr(torch, "normal", normal)
    tunnel = attr.NoiseTunnel(attr.Saliency(theirs))
    expected = tunnel.attribute(as_torch(image), nt_type=theirs_kind, nt_samples=count, stdevs=stdev, target=TARGETS[0], abs=False)
    assert len(drawn) == 1
    if kind == "times_input":
        expected = expected * as_torch(image)
    found = SmoothGrad(num_samples=count, sigma=sigma, kind=kind)(model, image, TARGETS[:1], key=KEY, raw=True)
    assert_same(found, as_map(expected))


@pytest.mark.parametrize(
    ("window", "stride", "fill", "score"), [(4, 4, 0.0, "logit"), (5, 3, 0.5, "probability"), (7, 4, "image", "logit")]
)
def test_occlusion(window, stride, fill, score, images):
    """All three channels at once; windows that overlap, and some that the image's edge cuts off."""
    theirs, model = twins()
    given = images[::-1].mean(0) if fill == "image" else fill
    forward = theirs if score == "logit" else lambda x: theirs(x).softmax(-1)
    options = {"baselines": as_torch(given[None]) if fill == "image" else fill, "strides": (3, stride, stride)}
    with torch.no_grad():
        expected = attr.Occlusion(forward).attribute(as_torch(images), (3, window, window), target=TARGETS, **options)
    assert np.abs(expected.numpy() - expected[:, :1].numpy()).max() == 0  # the same for every channel
    assert_same(Occlusion(window, stride, given, score)(model, images, TARGETS, raw=True), expected[:, 0].numpy())
