"""What holds for every baseline that looks inside a vision transformer."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from vit_twin import random_image, random_model

from dave_jax.attribution.baselines.chefer import GenericAttention, TransformerAttribution
from dave_jax.attribution.baselines.full_gradient import FullGradPlus
from dave_jax.attribution.baselines.grad_cam import AttentionGradCam, GradCam
from dave_jax.attribution.baselines.legrad import LeGrad
from dave_jax.attribution.baselines.rollout import GradientRollout, Rollout
from dave_jax.models.rotary import Rotary
from dave_jax.testing import count_compilations

pytestmark = pytest.mark.slow

METHODS = [
    Rollout(),
    GradientRollout(),
    GenericAttention(),
    TransformerAttribution(),
    LeGrad(),
    GradCam(),
    AttentionGradCam(),
    FullGradPlus(),
]
EVERYTHING = {
    "class": {
        **dict(distillation_token=True, num_registers=2, pre_norm=True, layer_scale=True, query_key_norm=True, position_on_prefix=False),
        **dict(norm="rms_norm", gated_mlp=True, activation="silu", mlp_norm=True, attention_norm=True, patch_norm=True, image_size=(8, 16)),
        **dict(rotary=Rotary("learned", order="xy", pairs="halves"), key_bias=False, mlp_layer_scale=False),
    },
    "map": {
        **dict(pooling="map", pool_prefix=True, num_registers=1, final_norm="none", num_classes=0, image_size=(8, 16)),
        **dict(rotary=Rotary(coordinates="centred"), position_embedding=False, pool_num_heads=4, post_norm=True),
    },
}


@pytest.fixture(scope="module")
def images():
    return random_image(np.float32, 2, 16, 16, 3)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_a_map_depends_on_its_image_and_target_alone(method, images):
    """Not on the other images, and not on other targets."""
    model = random_model(np.float32)
    maps = np.asarray(method(model, images, [[0, 3], [1, 2]], raw=True))
    others = np.asarray(method(model, images[::-1], [[2, 4], [3, 1]], raw=True))
    np.testing.assert_allclose(others[1, 0], maps[0, 1], rtol=1e-6, atol=1e-6 * np.abs(maps).max())
    np.testing.assert_allclose(others[0, 0], maps[1, 1], rtol=1e-6, atol=1e-6 * np.abs(maps).max())
    if type(method) is not Rollout:
        assert np.abs(maps[:, 0] - maps[:, 1]).max() > 0.01 * np.abs(maps).max()
    if hasattr(method, "discard"):
        with count_compilations() as compiled:
            changed = dataclasses.replace(method, discard=0.5)(model, images, [[0, 3], [1, 2]], raw=True)
        assert compiled == [] and float(jnp.abs(changed - maps).max()) > 0
    heat = method.heat_map(jnp.asarray(maps[0, 0]))
    assert float(heat.min()) >= 0.0 and float(heat.max()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *(("class", method) for method in METHODS if not isinstance(method, (GradientRollout, GenericAttention))),
        *(("map", method) for method in (Rollout(), GenericAttention(), LeGrad(), AttentionGradCam())),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_every_architecture(kind, method):
    """Together the two have every option; oblong images, so that rows and columns cannot be exchanged. Methods that do nothing of their own
    with an architecture are left out."""
    model = random_model(np.float32, **EVERYTHING[kind])
    maps = np.asarray(method(model, random_image(np.float32, 1, 8, 16, 3), [1], raw=True))
    assert maps.shape == (1, 8, 16) and np.isfinite(maps).all() and maps.std() > 0
