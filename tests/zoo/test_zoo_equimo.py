"""equimo (Equinox): vision transformers and what came after them, convolutional, linear in the tokens, of state spaces."""

import equinox as eqx
import jax
import pytest
from zoo_checks import MARKS, SINGLE, Cases, check, fields, library

import dave_jax as dave

models = library("equimo.models")
pytestmark = MARKS

SMALL = dict(img_size=16, patch_size=4, dim=24, num_heads=2, depths=[2])
ROTARY = dict(use_global_pos_embed=False, use_local_pos_embed=True, global_pool="token", reg_tokens=2, init_values=1.0)
GATED = dict(ffn_layer="swiglu", norm_layer="rmsnorm", qk_norm=True)
STAGES = dict(depths=[1, 1], num_heads=[1, 2], dim=8, img_size=32)
MOBILE = [
    (16, 16, 3, 2, True, "relu"),
    (24, 48, 3, 1, False, "relu"),
    (24, 72, 5, 2, True, "hard_swish"),
    (24, 72, 5, 1, True, "hard_swish"),
]


def in_inference(module, image):
    return module(image.transpose(2, 0, 1), key=jax.random.PRNGKey(0), inference=True)


def network(module, size, *args, **options):
    build = eqx.filter_jit(lambda key: module(*args, num_classes=5, key=key, **options))  # one compilation, not one for each weight
    return dave.from_equinox(build(jax.random.PRNGKey(0)), call=in_inference, **fields(size))


CASES: Cases = {
    "ViT (RoPE, SwiGLU, RMSNorm, query-key norms, registers)": lambda: network(
        models.VisionTransformer, 16, in_channels=3, **SMALL, **ROTARY, **GATED
    ),
    "ConvNeXt": lambda: network(models.ConvNeXt, 32, depths=[1, 1, 1], dims=[8, 8, 16], layer_scale_init_value=0.5),
    "MobileNetV3": lambda: network(models.MobileNetv3, 32, 3, MOBILE, last_channels=128),
    "MLLA (linear attention)": lambda: network(models.Mlla, 32, in_channels=3, **STAGES),
    "VSSD (state space)": lambda: network(
        models.Vssd, 32, in_channels=3, d_state=8, attentions_layers=("mamba2mixer", "attention"), **STAGES
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equimo(name):
    check("equimo", name, CASES[name](), SINGLE if name == "ConvNeXt" else 1e-12)
