"""A trained model at a real size: compilers treat large arrays in other ways than those of tiny models.

XLA on the CPU (jaxlib 0.10) got the softmax derivative of several cotangents wrong there, for all but the first of them.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.baselines.integrated_gradients import IntegratedGradients
from dave_jax.attribution.baselines.smoothgrad import SmoothGrad
from dave_jax.attribution.dave import Dave
from dave_jax.attribution.method import Method
from dave_jax.attribution.methods import methods

pytestmark = pytest.mark.slow

TARGETS = [8, 9, 0]
MODIFIED = [name for name, method in methods.items() if isinstance(method, InputTimesGradient)]
INSIDE = ["grad_cam", "attention_grad_cam", "gradient_rollout", "gae", "legrad", "full_grad_plus"]
PLAIN: dict[str, Method] = {name: methods[name] for name in MODIFIED + INSIDE} | {"integrated_gradients": IntegratedGradients(num_steps=4)}
"""Methods without randomness; not `transformer_attribution`, which is badly conditioned by itself."""


@pytest.fixture(scope="module")
def model():
    return dave.load(image_size=112)


@pytest.fixture(scope="module")
def images(model):
    return np.asarray(jax.random.normal(jax.random.key(1), (1, 112, 112, 3)))


def difference(found, true) -> float:
    """The largest error of each map, relative to its largest value; the largest of them."""
    found, true = np.asarray(found, np.float64), np.asarray(true, np.float64)
    return float((np.abs(found - true).max(axis=(-2, -1)) / np.abs(true).max(axis=(-2, -1))).max())


@pytest.mark.parametrize("name", PLAIN)
def test_maps_in_float32_are_those_in_float64(model, images, name):
    found = PLAIN[name](model, images, [TARGETS], raw=True)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), model.params)
        true = PLAIN[name](dataclasses.replace(model, params=params), images.astype(np.float64), [TARGETS], raw=True)
        assert true.dtype == jnp.float64
    assert difference(found, true) <= 1e-4  # rounding through six blocks, 1e-5 seen


@pytest.mark.parametrize("method", [SmoothGrad(num_samples=4), Dave(dave.DaveConfig(num_samples=4))], ids=["smoothgrad", "dave"])
def test_several_targets_are_one_at_a_time(model, images, method):
    key = jax.random.key(0)
    together = method(model, images, [TARGETS], key=key, raw=True)[0]
    alone = jnp.concatenate([method(model, images, [target], key=key, raw=True) for target in TARGETS])
    assert difference(together, alone) <= 1e-4
