"""The programs for accelerators, made here without one: they lower, and hold nothing that is slow or has no fixed order there."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

import dave_jax as dave
from dave_jax.attribution.explain import _explain
from dave_jax.effective.decomposition import effective
from dave_jax.testing import tiny_model

CONFIG = dave.DaveConfig(num_samples=4, noise_alpha=0.5, chunk_size=2, mad_pilot=4, precision="bfloat16", warp_adjoint="gather")


def lowered(platform: str, **changes) -> str:
    """The program of `explain` for a platform, as text."""
    model = tiny_model()
    config = dataclasses.replace(CONFIG, **changes)

    def program(params, images, key, config):
        ids = jnp.arange(2)
        return _explain(model.forward, effective, params, images, jnp.ones((2, 1, 5)), key, ids, config, False, False, None)[0]

    exported = jax.export.export(jax.jit(program), platforms=[platform])(model.params, jnp.ones((2, 16, 16, 3)), jax.random.key(0), config)
    return exported.mlir_module()


def scatters(text: str) -> list[str]:
    """The scatters whose indices may meet: those that do not say that they are unique."""
    return [line for line in text.splitlines() if '"stablehlo.scatter"' in line and "unique_indices = true" not in line]


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize(
    "changes",
    [{}, pytest.param({"sampler": "lattice", "aggregation": "biweight", "smoothing": True, "mad_pilot": 2}, marks=pytest.mark.slow)],
)
def test_no_meeting_scatters_and_no_dynamic_shapes(platform, changes):
    text = lowered(platform, **changes)
    assert "stablehlo.while" in text and "bf16" in text
    assert not scatters(text)
    assert "tensor<?" not in text and "dynamic_gather" not in text and "dynamic_reshape" not in text


@pytest.mark.slow
def test_the_scattering_warp_would_be_found():
    assert scatters(lowered("cpu", warp_adjoint="scatter"))


@pytest.mark.slow
def test_products_of_half_precision_accumulate_in_float32():
    """Attention's two products ask for float32; the others round once, after an accumulation that is the hardware's."""
    products = re.findall(r"stablehlo\.dot_general.*", lowered("tpu"))
    attention = [product for product in products if re.search(r"-> tensor<(\d+x)+f32>", product) and "bf16" in product]
    assert len(attention) >= 2
