"""Several targets of a real model: `vmap` over their cotangents gave wrong maps to all but the first, which no tiny model showed."""

import jax
import jax.numpy as jnp
import pytest

import dave_jax as dave
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.baselines.integrated_gradients import IntegratedGradients


@pytest.mark.parametrize("method", [InputTimesGradient("gim"), IntegratedGradients(num_steps=2)], ids=["gim", "integrated gradients"])
def test_several_targets_are_one_at_a_time(method):
    model = dave.load(image_size=56)
    images = jax.random.normal(jax.random.key(1), (1, 56, 56, 3))
    together = method(model, images, [[8, 9, 0]], raw=True)[0]
    for target, found in zip([8, 9, 0], together, strict=True):
        alone = method(model, images, [target], raw=True)[0]
        assert float(jnp.abs(found - alone).max()) <= 1e-4 * float(jnp.abs(alone).max())  # sums in another order, through six blocks
