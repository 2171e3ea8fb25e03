"""What holds for every baseline of the gradient and perturbation kind, and for the floors."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_model import small_model

from dave_jax.attribution.baselines.floors import CentreMap, EdgeMap, RandomMap
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.baselines.integrated_gradients import IntegratedGradients
from dave_jax.attribution.baselines.occlusion import Occlusion
from dave_jax.attribution.baselines.rise import Rise
from dave_jax.attribution.baselines.scoring import check_score
from dave_jax.attribution.baselines.smoothgrad import SmoothGrad
from dave_jax.testing import count_compilations

KEY = jax.random.key(5)
METHODS = [
    IntegratedGradients(num_steps=3, chunk_size=2),
    SmoothGrad(num_samples=3, chunk_size=2),
    Rise(num_masks=5, cells=4, chunk_size=2),
    Occlusion(window=6, stride=5, chunk_size=4),
    RandomMap(),
    EdgeMap(),
    CentreMap(),
]
"""Chunks that leave a remainder."""

CHANGES = {
    IntegratedGradients: dict(baseline=0.3),
    SmoothGrad: dict(sigma=0.4),
    Rise: dict(keep=0.7, fill=-0.2),
    Occlusion: dict(fill=0.5),
    CentreMap: dict(sigma=0.1),
}


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(3), (2, 16, 16, 3))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_a_map_depends_on_its_image_and_target_alone(method, model, images):
    """Not on batch, other targets or chunk; up to the rounding of another order of summation."""
    maps = method(model, images, [[0, 3], [1, 2]], key=KEY, raw=True)
    assert maps.shape == (2, 2, 16, 16)
    if type(method) in CHANGES:
        with count_compilations() as compiled:
            changed = dataclasses.replace(method, **CHANGES[type(method)])(model, images, [[0, 3], [1, 2]], key=KEY, raw=True)
        assert compiled == []
        assert float(jnp.abs(changed - maps).max()) > 1e-4 * float(jnp.abs(maps).max())
    swapped = method(model, images[::-1], [[1, 2], [0, 3]], key=KEY, raw=True)
    np.testing.assert_array_equal(swapped[::-1], maps)
    single = dataclasses.replace(method, chunk_size=1) if hasattr(method, "chunk_size") else method
    heat = single(model, images[1:], [1], key=KEY)[0]
    assert heat.shape == (16, 16) and float(heat.min()) >= 0.0 and float(heat.max()) == pytest.approx(1.0)
    if not isinstance(method, RandomMap):  # draws for k targets at once
        np.testing.assert_allclose(heat, method.heat_map(maps[1, 0]), atol=5e-6)


@pytest.mark.parametrize("method", [method for method in METHODS if method.random], ids=lambda method: type(method).__name__)
def test_random_methods_need_a_key(method, model, images):
    with pytest.raises(ValueError, match="needs a key"):
        method(model, images, [0, 1])


def linear(params, image, decomposition):
    return jnp.einsum("chwd,hwd->c", params, image, precision="highest")


def test_all_are_input_times_gradient_on_a_linear_model(model, images):
    """Noise and path do not matter; a window of one pixel, covered with 0, takes that pixel's contribution away."""
    weights = jax.random.normal(jax.random.key(8), (5, 16, 16, 3))
    straight = dataclasses.replace(model, params=weights, forward=linear)
    expected = jnp.sum(images * weights[jnp.array([4, 1])], axis=-1)
    scale = float(jnp.abs(expected).max())
    for method, tolerance in (
        (InputTimesGradient(), 1e-6),
        (IntegratedGradients(num_steps=3), 1e-6),
        (SmoothGrad(num_samples=3), 1e-6),
        (Occlusion(window=1, stride=1), 1e-5),  # a difference of two sums of 768 terms
    ):
        np.testing.assert_allclose(method(straight, images, [4, 1], key=KEY, raw=True), expected, atol=tolerance * scale)


def untyped(method, **changes) -> SimpleNamespace:
    """Settings that the tests' type checker would refuse before the method does."""
    return SimpleNamespace(**vars(method) | changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntegratedGradients(num_steps=0), "num_steps must be an integer of at least 1; got 0"),
        (lambda: SmoothGrad(sigma=-0.1), "sigma must be a share .*got -0.1"),
        (lambda: Rise(keep=0.0), "keep is the probability .*got 0.0"),
        (lambda: check_score("Rise", "probabilty"), "Rise: score must be 'probability' or 'logit'; got 'probabilty'"),
        (lambda: Rise(chunk_size=0), "chunk_size must be an integer of at least 1; got 0"),
        (lambda: Occlusion(window=4, stride=5), "stride must be at most window.*stride=5 and window=4"),
        (lambda: CentreMap(sigma=0), "sigma must be a positive share"),
        (
            lambda: SmoothGrad.__post_init__(untyped(SmoothGrad(), kind="squared")),
            "kind must be one of .*got 'squared'",
        ),
    ],
)
def test_wrong_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Rise(fill=np.zeros(2)), r"fill must be a number, .*got shape \(2,\)"),
        (IntegratedGradients(baseline=np.zeros((8, 8, 3))), r"baseline must be a number, .*got shape \(8, 8, 3\)"),
        (Occlusion(window=17), "window must be at most the image's size, 16 x 16 pixels; got 17"),
        (Rise(cells=17), "cells must be at most the image's size, 16 pixels; got 17"),
    ],
)
def test_settings_that_do_not_fit_the_image(method, message, model, images):
    with pytest.raises(ValueError, match=message):
        method(model, images, [0, 1], key=KEY)


def test_the_names_of_the_page_are_the_defaults():
    """docs/baselines.md names them."""
    assert (IntegratedGradients().num_steps, IntegratedGradients().baseline) == (50, 0.0)
    assert (SmoothGrad().num_samples, SmoothGrad().sigma, SmoothGrad().kind) == (50, 0.15, "times_input")
    assert (Rise().num_masks, Rise().cells, Rise().keep, Rise().score, Rise().centred) == (1000, 7, 0.5, "probability", False)
    assert (Occlusion().window, Occlusion().stride, Occlusion().score) == (16, 8, "logit")
    assert EdgeMap().std is None and CentreMap().sigma == 0.25
