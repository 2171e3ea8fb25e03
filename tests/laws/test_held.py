"""Attention held for backward passes against attention frozen: the same values and derivatives."""

import jax
import jax.numpy as jnp
import pytest
from normal_arrays import normal

from dave_jax.effective import layers
from dave_jax.effective.decomposition import cp_lrp, effective, gradient
from dave_jax.effective.held import HeldMixing, hold
from dave_jax.effective.operators import Diagonal, Mixing
from dave_jax.testing import tiny_model


def attend(rules, dtype):
    """The output of attention, and what several cotangents leave of it at the values."""
    query, key, value = (normal(seed, 2, 5, 3).astype(dtype) for seed in range(3))
    mixed, pull = jax.vjp(lambda value: layers.mixing(query, key, value, rules)[0], value)
    (back,) = jax.vmap(pull)(normal(3, 4, *mixed.shape).astype(dtype))
    return mixed, back


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-14), (jnp.float32, 1e-6), (jnp.bfloat16, 0.0)])  # of sums of about one
def test_like_freeze(dtype, tolerance, x64):
    for held, frozen in zip(attend(effective.backwards(), dtype), attend(effective, dtype), strict=True):
        assert held.dtype == frozen.dtype == dtype
        assert jnp.allclose(held, frozen, rtol=tolerance, atol=tolerance)


def test_nothing_passes_through_the_weights(x64):
    value = normal(0, 2, 5, 3)
    through = jax.grad(lambda weights: hold(Mixing(weights, weights.sum(-1, keepdims=True), value.shape))(value).sum())
    assert not through(jnp.exp(normal(1, 2, 4, 5))).any()


@pytest.mark.parametrize("rules", [effective, cp_lrp], ids=lambda rules: rules.name)
def test_a_network_goes_back_alike(rules, x64):
    model = tiny_model()
    image = normal(0, *model.preprocessing.image_size, 3)
    held, frozen = (jax.grad(lambda image, r=r: model.forward(model.params, image, r)[1])(image) for r in (rules.backwards(), rules))
    assert jnp.allclose(held, frozen, rtol=0, atol=1e-13 * float(jnp.abs(frozen).max()))


def test_only_frozen_attention_is_held():
    assert gradient.backwards() is gradient
    assert isinstance(hold(Mixing(jnp.ones((1, 2, 2)), jnp.full((1, 2, 1), 2.0), (1, 2, 1))), HeldMixing)
    assert isinstance(hold(Diagonal(jnp.ones(2), (2,))), Diagonal)
