"""Of its last block a vision transformer computes what its head reads, against `operators`, which has all of it."""

import jax
import jax.numpy as jnp
import pytest

from dave_jax.effective.decomposition import presets
from dave_jax.effective.precision import unpacked
from dave_jax.models.network import in_precision
from dave_jax.models.rotary import Rotary
from dave_jax.testing import tiny_model


@pytest.mark.parametrize("decomposition", presets)
@pytest.mark.parametrize(
    "options",
    [
        {"rotary": Rotary("learned"), "post_norm": True, "num_registers": 1},
        {"relative_position": True, "norm": "rms_norm"},
        {"distillation_token": True, "layer_scale": True, "gated_mlp": True},
        {"pooled_blocks": 2, "depth": 3},
        {"depth": 1, "pooling": "token"},
    ],
    ids=str,
)
def test_what_no_head_reads_moves_no_derivative(options, decomposition, x64):
    """Of the logits, whose last block computes what the head reads, and of `operators`, which computes all of it."""
    model = tiny_model(**options)
    params, image = jax.tree.map(lambda leaf: leaf.astype(float), model.params), jax.random.normal(jax.random.key(1), (16, 16, 3))
    short, pull = jax.vjp(lambda image: model.forward(params, image, decomposition), image)
    whole, pull_whole = jax.vjp(lambda image: model.forward.operators(params, image, decomposition)[0], image)
    cotangent = jax.random.normal(jax.random.key(2), short.shape)
    (found,), (expected,) = pull(cotangent), pull_whole(cotangent)
    assert jnp.allclose(short, whole, rtol=0, atol=1e-12)
    assert float(jnp.abs(expected).max()) > 1e-4
    assert jnp.allclose(found, expected, rtol=0, atol=1e-12 * float(jnp.abs(expected).max()))


def test_what_no_head_reads_is_not_computed():
    """The compiler's count of operations, which has a loop's body once: beside one whole block, the last costs little."""
    image = jnp.zeros((16, 16, 3))

    def operations(pooling):
        model = tiny_model(pooling=pooling, width=64, mlp_width=256)
        return jax.jit(model.forward).lower(model.params, image).compile().cost_analysis()["flops"]

    assert operations("token") < 1.3 * operations("avg")


@pytest.mark.parametrize("decomposition", ["effective", "gradient"])
def test_no_blocks_are_copied(decomposition):
    """Neither those before the last, which run alone, nor what a backward pass needs of them."""
    model = tiny_model(depth=6, width=12, mlp_width=20)
    explained = jax.grad(lambda image: model.forward(model.params, image, decomposition)[0])
    program = str(jax.make_jaxpr(explained)(jnp.zeros((16, 16, 3))))
    assert "f32[5,17,20]" in program  # what is kept of the activation
    assert not [shape for shape in ("f32[5,12,12]", "f32[5,12,20]", "f32[5,20,12]") if shape in program]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's slices on CPUs")
def test_no_stack_of_fast_products_is_widened():
    """XLA on the CPU (of jaxlib 0.10, not of 0.12) has no slices of bfloat16, and makes all blocks float32 for one of them."""
    model = tiny_model(depth=6, width=12, mlp_width=20)
    explained = jax.jit(jax.grad(lambda image, params: model.forward(params, image, "effective")[0]))
    packed = in_precision(model.forward, model.params, "bfloat16_products", jnp.float32)
    as_bfloat16 = jax.tree.map(unpacked, packed)
    widened = ["f32[6,12,20]" in explained.lower(jnp.zeros((16, 16, 3)), params).compile().as_text() for params in (packed, as_bfloat16)]
    assert not widened[0]
    assert widened[1] or not jax.__version__.startswith("0.10.")
