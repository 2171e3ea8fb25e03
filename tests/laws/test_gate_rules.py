"""The rules of gates and of activations under every preset, against their derivatives written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from normal_arrays import normal

from dave_jax.effective import layers
from dave_jax.effective.decomposition import cp_lrp, freeze, presets

pytestmark = pytest.mark.slow

SLOPES = {  # of y = silu(g) h with g = 2 x + 1 and h = x: what becomes of d silu(g) / dg, and the shares of gate and argument
    "gradient": ("slope", 1.0, 1.0),
    "effective": ("multiplier", 0.0, 1.0),
    "cp_lrp": ("slope", 0.0, 1.0),
    "cp_lrp_identity": ("multiplier", 0.0, 1.0),
    "libragrad": ("multiplier", 0.5, 0.5),
    "attn_lrp": ("multiplier", 0.5, 0.5),
    "res_lrp": ("multiplier", 0.5, 0.5),
    "gim": ("slope", 0.5, 0.5),
}


@pytest.mark.parametrize("name", presets)
def test_gate(name, x64):
    kind, gate, argument = SLOPES[name]
    eye = jnp.eye(3)
    params = {"fc1": {"kernel": eye}, "gate": {"kernel": 2.0 * eye, "bias": jnp.ones(3)}, "fc2": {"kernel": eye}}
    x = normal(0, 4, 3)
    y, pull = jax.vjp(lambda x: layers.mlp(params, x, presets[name], activation_name="silu", eps=1e-6)[0], x)
    g = 2.0 * np.asarray(x) + 1.0
    sigmoid = 1.0 / (1.0 + np.exp(-g))
    slope = sigmoid if kind == "multiplier" else sigmoid + g * sigmoid * (1.0 - sigmoid)
    expected = gate * 2.0 * slope * x + argument * g * sigmoid
    assert jnp.allclose(pull(jnp.ones_like(y))[0], expected, rtol=0, atol=1e-12)


def test_cp_lrp_differentiates_the_activation(x64):
    x = normal(0, 4, 3)
    for name, rules in presets.items():
        pulled = jax.grad(lambda x, rules=rules: layers.activation(x, rules, name="silu")[0].sum())(x)
        expected = jax.grad(lambda x: jax.nn.silu(x).sum())(x) if name in ("gradient", "cp_lrp", "gim") else jax.nn.sigmoid(x)
        assert jnp.allclose(pulled, expected, rtol=0, atol=1e-12), name
    assert cp_lrp.gate is freeze
