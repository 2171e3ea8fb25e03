"""Metrics against quantus' on a small random timm vision transformer: 1e-4. Logits are compared first.

Its options are matched to what ours mean: the positive part instead of the absolute value, no normalisation of maps, whole pixels instead
of single channels. The authors' deletion, which quantus does not have, is compared with a loop in PyTorch.
"""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("quantus")

import torch
from timm.models.vision_transformer import VisionTransformer
from torch_reference import randomise

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    import quantus
    from quantus.functions.perturb_func import noisy_linear_imputation

from convert_weights.timm import config_from_options, params_from_arrays
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.evaluation.imputation import linear_imputation
from dave_jax.evaluation.localisation import energy_in_region, pointing_game, relevance_rank_accuracy
from dave_jax.evaluation.perturbation import PerturbationProtocol, dave_paper, perturbation_curves
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.vit import ViT
from dave_jax.sampling.blur import gaussian_blur

pytestmark = pytest.mark.parity

SIZE = 24
OPTIONS: dict[str, Any] = dict(img_size=SIZE, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=5)
TARGETS = np.array([2, 4, 0])
PLAIN: dict[str, Any] = dict(abs=False, normalise=False, disable_warnings=True)


@functools.cache
def twins() -> tuple[torch.nn.Module, Model]:
    theirs = randomise(VisionTransformer(**OPTIONS), seed=5)
    config = config_from_options(OPTIONS)
    params = params_from_arrays({name: value.numpy() for name, value in theirs.state_dict().items()}, config)
    return theirs, Model(jax.device_put(params), ViT(config), preprocessing=Preprocessing(image_size=config.image_size))


@functools.cache
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, signed maps of them, and regions."""
    draw = np.random.default_rng(3)
    images = draw.standard_normal((3, SIZE, SIZE, 3), np.float32)
    maps = np.asarray(InputTimesGradient()(twins()[1], images, TARGETS, raw=True))
    regions = np.zeros((3, SIZE, SIZE), bool)
    regions[0, 3:15, 5:20] = regions[1, :8] = regions[2, 4:9, 2:9] = regions[2, 6:20, 12:18] = True
    return images, maps, regions


def channels_first(images) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(np.asarray(images), -1, 1))


def quantus_scores(metric, images, maps, **options) -> np.ndarray:
    return np.array(
        metric(model=twins()[0], x_batch=channels_first(images), y_batch=TARGETS, a_batch=maps[:, None], device="cpu", **options), float
    )


def test_logits():
    images, _, _ = case()
    with torch.no_grad():
        theirs = twins()[0](torch.from_numpy(channels_first(images)))
    np.testing.assert_allclose(twins()[1].logits(images), theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (energy_in_region, quantus.AttributionLocalisation(positive_attributions=True, **PLAIN)),
        (relevance_rank_accuracy, quantus.RelevanceRankAccuracy(**PLAIN)),
        (pointing_game, quantus.PointingGame(**PLAIN)),
    ],
)
def test_localisation(ours, theirs):
    images, maps, regions = case()
    for sign in (1.0, -1.0):  # the pointing game is won by one of them at least
        found = ours(jnp.asarray(sign * maps), jnp.asarray(regions))
        expected = quantus_scores(theirs, images, sign * maps, s_batch=regions[:, None])
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert ours is pointing_game or 0 < expected.min() < expected.max() < 1


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("fill", ["mean", "blur"])
@pytest.mark.parametrize("first", ["most", "least"])
def test_pixel_flipping(first, fill, softmax):
    """16 pixels a step. Theirs ranks the channels of a pixel one by one, which are tied and so stay together; it starts after a step."""
    images, maps, _ = case()
    instead = np.zeros_like(images) if fill == "mean" else jax.vmap(lambda image: gaussian_blur(image, size=31, sigma=7.0))(images)
    flat = channels_first(instead).reshape(3, -1)

    def perturb(arr, indices, **_):
        changed = arr.copy()
        np.put_along_axis(changed, indices, np.take_along_axis(flat, indices, 1), 1)
        return changed

    metric = quantus.PixelFlipping(features_in_step=3 * 16, perturb_func=perturb, **PLAIN)
    expected = quantus_scores(metric, images, maps if first == "most" else -maps, softmax=softmax)
    protocol = PerturbationProtocol(first=first, fill=fill, fraction=1.0, points=SIZE**2 // 16)
    found = perturbation_curves(twins()[1], images, TARGETS, maps, protocol=protocol)
    curve = np.asarray(found.probabilities if softmax else found.logits)
    assert curve.shape == (3, 37)
    np.testing.assert_allclose(curve[:, 1:], expected, atol=1e-4)
    assert np.ptp(expected, axis=1).max() > 0.1  # or it would not matter what is flipped


def test_noisy_linear_imputation():
    """Without the noise, at removed pixels; their default solver is a direct one."""
    images, maps, _ = case()
    gone = maps[0] > np.quantile(maps[0], 0.4)
    expected = noisy_linear_imputation(channels_first(images)[0].astype(np.float64), np.flatnonzero(gone), noise=0.0)
    found = linear_imputation(jnp.asarray(images[0]), jnp.asarray(gone), tolerance=1e-6)
    np.testing.assert_allclose(found, np.moveaxis(expected, 0, -1), atol=1e-4)


def blurred_by_torch(images: torch.Tensor) -> torch.Tensor:
    """A Gaussian of 31 pixels and sigma 7 whose weights sum to one; zeros outside."""
    x = torch.arange(31.0) - 15
    line = torch.exp(-(x**2) / (2 * 7.0**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    return torch.nn.functional.conv2d(images, kernel.expand(3, 1, 31, 31), padding=15, groups=3)


def test_the_authors_deletion():
    """Pixel after pixel, the least important first; the model is asked every `stride` pixels, and at the end."""
    images, maps, _ = case()
    theirs, ours = twins()
    current = torch.from_numpy(channels_first(images))
    blurred = blurred_by_torch(current)
    total = int(0.9 * SIZE * SIZE)
    stride = total // 128
    expected = []
    for i in range(3):
        image, chances = current[i].clone(), []
        order = np.argsort(maps[i].ravel(), kind="stable")[:total]
        for removed in range(total + 1):
            if removed % stride == 0 or removed == total:
                with torch.no_grad():
                    chances.append(torch.softmax(theirs(image[None]), -1)[0, TARGETS[i]].item())
            if removed < total:
                row, column = divmod(int(order[removed]), SIZE)
                image[:, row, column] = blurred[i, :, row, column]
        expected.append(chances)
    found = perturbation_curves(ours, images, TARGETS, maps, protocol=dave_paper)
    assert found.shares[[0, 1, -1]].tolist() == [0, stride / SIZE**2, total / SIZE**2]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
