"""Twelve small random timm vision transformers against their conversions: values, gradients, effective transformations.

Together they cover every option of `ViTConfig` (a test checks that). Tolerances are relative to the largest value.
"""

import dataclasses
import functools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import timm.layers
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch_reference import frozen, logits_and_gradient, randomise
from vit_twins import check_saved

from convert_weights.timm import config_from_options, params_from_arrays
from dave_jax.effective import layers
from dave_jax.effective.activations import MULTIPLIERS
from dave_jax.effective.decomposition import effective, gradient
from dave_jax.models.positions import resample_positions
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig

pytestmark = pytest.mark.parity

LAYERS = {  # timm's layers by the names that the options use
    "LayerNorm(eps=1e-05)": partial(timm.layers.LayerNorm, eps=1e-5),
    "LayerNorm(eps=0.01)": partial(timm.layers.LayerNorm, eps=1e-2),
    "RmsNorm(eps=1e-05)": partial(timm.layers.RmsNorm, eps=1e-5),
    "RmsNorm": timm.layers.RmsNorm,
    "SwiGLU": timm.layers.SwiGLU,
    "SwiGLUPacked": timm.layers.SwiGLUPacked,
    "GluMlp(act_layer=SiLU,gate_last=False)": partial(timm.layers.GluMlp, act_layer=torch.nn.SiLU, gate_last=False),
}
SMALL = dict(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=5)
CASES: dict[str, dict[str, Any]] = {
    "plain": dict(img_size=32, patch_size=8, depth=3, num_heads=3, mlp_ratio=3),
    "average": dict(global_pool="avg", class_token=False),
    "average_of_normed_tokens": dict(global_pool="avg", fc_norm=False, reg_tokens=2, act_layer="relu"),
    "siglip": dict(global_pool="map", class_token=False, act_layer="gelu_tanh", mlp_ratio=3.7362, num_heads=4),
    "deit3": dict(no_embed_class=True, init_values=1e-6, reg_tokens=3),
    "distilled": dict(distilled=True, img_size=24, patch_size=8),
    "clip": dict(pre_norm=True, act_layer="quick_gelu", norm_layer="LayerNorm(eps=1e-05)", depth=1),
    "query_key_norm": dict(qk_norm=True, qkv_bias=False, img_size=[16, 24], act_layer="SiLU"),
    "aimv2": dict(
        **dict(global_pool="avg", fc_norm=False, class_token=False, qkv_bias=False, proj_bias=False, mlp_ratio=2.75, num_classes=0),
        **dict(norm_layer="RmsNorm(eps=1e-05)", embed_norm_layer="RmsNorm", mlp_layer="SwiGLU", act_layer="silu"),
    ),
    "giant": dict(mlp_layer="GluMlp(act_layer=SiLU,gate_last=False)", act_layer="SiLU", init_values=1.0, reg_tokens=1, fc_norm=True),
    "scale_norms": dict(
        **dict(scale_attn_norm=True, scale_mlp_norm=True, final_norm=False, global_pool="avg", pool_include_prefix=True),
        **dict(embed_norm_layer="LayerNorm(eps=0.01)", mlp_layer="SwiGLUPacked"),
    ),
    "everything": dict(
        **dict(global_pool="map", pool_include_prefix=True, fc_norm=True, reg_tokens=2, qk_norm=True, scale_attn_norm=True),
        **dict(norm_layer="RmsNorm", scale_mlp_norm=True, mlp_layer="SwiGLU", init_values=0.1, pre_norm=True, proj_bias=False),
    ),
}


def build(options: dict[str, Any]) -> torch.nn.Module:
    kind = VisionTransformerDistilled if options.get("distilled") else VisionTransformer
    arguments = {
        name: LAYERS.get(value, value) if isinstance(value, str) else value for name, value in options.items() if name != "distilled"
    }
    return kind(**arguments)


@dataclasses.dataclass
class Twins:
    config: ViTConfig
    theirs: dict[str, tuple[np.ndarray, np.ndarray]]
    ours: dict[str, tuple[np.ndarray, np.ndarray]]


@functools.cache
def twins(case: str) -> Twins:
    """Logits and image gradients of both sides, ordinary and effective, for two images and a random cotangent each."""
    options = SMALL | CASES[case]
    seed = list(CASES).index(case)
    model = randomise(build(options), seed)
    config = config_from_options(options)
    params = params_from_arrays({name: value.numpy() for name, value in model.state_dict().items()}, config)

    draw = np.random.default_rng(seed)
    images = draw.standard_normal((2, *config.image_size, 3), np.float32)
    cotangents = draw.standard_normal((2, config.num_classes or config.width), np.float32)
    channels_first = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    theirs = {
        name: logits_and_gradient(variant, channels_first, torch.from_numpy(cotangents))
        for name, variant in (("gradient", model), ("effective", frozen(model)))
    }

    def explain(params, image, cotangent):
        results = {}
        for name in ("gradient", "effective"):
            logits, pull = jax.vjp(lambda image, name=name: ViT(config)(params, image, name), image)
            results[name] = logits, pull(cotangent)[0]
        return results

    program = jax.jit(jax.vmap(explain, (None, 0, 0))).lower(params, images, cotangents)
    quickly = {"xla_backend_optimization_level": 0}  # the programs are small and run once
    ours = program.compile(quickly)(params, images, cotangents)
    return Twins(
        config,
        {name: (logits.numpy(), grad.numpy().transpose(0, 2, 3, 1)) for name, (logits, grad) in theirs.items()},
        {name: (np.asarray(logits), np.asarray(grad)) for name, (logits, grad) in ours.items()},
    )


def distance(ours, theirs) -> float:
    """Largest difference, relative to the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def test_the_cases_cover_every_option():
    configs = [config_from_options(SMALL | options) for options in CASES.values()]
    assert len(configs) == 12
    constant = {field.name for field in dataclasses.fields(ViTConfig) if len({getattr(config, field.name) for config in configs}) == 1}
    of_eva = {"position_embedding", "relative_position", "rotary", "key_bias", "pool_num_heads", "pool_mlp_width"}
    of_eva |= {"mlp_layer_scale", "post_norm"}  # test_eva_timm.py and test_beit_timm.py
    below = {"overhang", "pooled_blocks", "stem_widths"}  # the last test here, test_dino_heads.py, test_bcos_torch.py
    of_clip = {"projection", "projection_bias", "unit_features", "head_bias"}  # test_clip_transformers.py, test_open_clip.py
    assert constant == {"width", "position_resampling"} | of_eva | of_clip | below  # resampling in test_huggingface.py
    assert {config.activation for config in configs} == set(MULTIPLIERS)
    assert {f"{config.pooling} {config.final_norm}" for config in configs} >= {
        *("token tokens", "token pooled", "avg tokens", "avg pooled", "avg none", "map tokens", "map pooled"),
    }


@pytest.mark.parametrize("case", CASES)
def test_logits(case):
    pair = twins(case)
    for name in ("gradient", "effective"):
        assert distance(pair.ours[name][0], pair.theirs["gradient"][0]) < 5e-6
    assert distance(pair.theirs["effective"][0], pair.theirs["gradient"][0]) < 5e-6  # the reference keeps the values too


@pytest.mark.parametrize("case", CASES)
def test_gradient(case):
    pair = twins(case)
    assert distance(pair.ours["gradient"][1], pair.theirs["gradient"][1]) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_effective_transformation(case):
    pair = twins(case)
    assert distance(pair.ours["effective"][1], pair.theirs["effective"][1]) < 1e-5
    assert distance(pair.theirs["effective"][1], pair.theirs["gradient"][1]) > 0.05  # or the test would not see what is frozen


@pytest.mark.parametrize("num_prefix", [0, 1, 5])
@pytest.mark.parametrize(
    ("old_grid", "grid"),
    [
        *(((4, 4), (4, 4)), ((4, 4), (7, 7)), ((4, 4), (16, 16)), ((7, 7), (5, 9)), ((14, 14), (16, 16)), ((14, 14), (28, 28))),
        *(((16, 16), (14, 14)), ((16, 16), (7, 7)), ((14, 14), (7, 21)), ((37, 37), (16, 16)), ((5, 5), (1, 2))),
        *(((4, 4), (2, 8)), ((3, 5), (6, 10)), ((6, 4), (4, 6)), ((8, 2), (4, 4))),
    ],
)
def test_resample_positions(old_grid, grid, num_prefix):
    """Absolute 1e-6 for values of the usual size; of the largest, 2e-6: timm's own rounding in float32 reaches 1.6e-6."""
    embedding = 0.1 * np.random.default_rng(0).standard_normal((num_prefix + math.prod(old_grid), 6), np.float32)
    theirs = timm.layers.resample_abs_pos_embed(torch.from_numpy(embedding)[None], grid, old_grid, num_prefix_tokens=num_prefix)[0].numpy()
    ours = [resample_positions(array, grid, num_prefix=num_prefix, old_grid=old_grid) for array in (embedding, jnp.asarray(embedding))]
    if old_grid[0] == old_grid[1] and math.prod(old_grid) != math.prod(grid):  # a square need not be told
        ours.append(resample_positions(embedding, grid, num_prefix=num_prefix))
    for array in ours:
        assert distance(array, theirs) < 2e-6
        np.testing.assert_allclose(array, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", ["plain", "deit3", "distilled"])
def test_another_image_size(case):
    options = SMALL | CASES[case]
    model = randomise(build(options), seed=7)
    arrays = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    size = [3 * options["patch_size"], 5 * options["patch_size"]]
    config = config_from_options(options | {"img_size": size})
    model.set_input_size(size)
    image = np.random.default_rng(0).standard_normal((*size, 3), np.float32)
    ours = ViT(config)(jax.device_put(params_from_arrays(arrays, config)), jnp.asarray(image))
    with torch.no_grad():
        theirs = model(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0]
    assert distance(ours, theirs.numpy()) < 1e-5


ACTIVATIONS = {
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": partial(torch.nn.functional.gelu, approximate="tanh"),
    "quick_gelu": timm.layers.activations.quick_gelu,
    "silu": torch.nn.functional.silu,
    "relu": torch.nn.functional.relu,
}


@pytest.mark.parametrize("name", MULTIPLIERS)
def test_activation(name):
    x = np.concatenate([np.linspace(-8, 8, 4001), np.geomspace(1e-8, 1e-2, 50), -np.geomspace(1e-8, 1e-2, 50)]).astype(np.float32)
    theirs = torch.from_numpy(x).requires_grad_(True)
    value = ACTIVATIONS[name](theirs)
    (slope,) = torch.autograd.grad(value.sum(), theirs)

    def ours(x, rules):
        return layers.activation(x, rules, name=name)[0]

    values, pull = jax.vjp(lambda x: ours(x, gradient), jnp.asarray(x))
    np.testing.assert_allclose(values, value.detach().numpy(), rtol=1e-6, atol=1e-6)
    smooth = x != 0  # relu has no slope at zero: each side picks its own
    # m + x m' cancels in the tail, where x is up to 8 and a rounding of m' counts as often
    np.testing.assert_allclose(np.asarray(pull(jnp.ones_like(values))[0])[smooth], slope.numpy()[smooth], rtol=1e-6, atol=5e-6)

    (multiplier,) = jax.vjp(lambda x: ours(x, effective), jnp.asarray(x))[1](jnp.ones_like(values))
    double = torch.from_numpy(x).double()
    away = np.abs(x) > 1e-3
    quotient = (ACTIVATIONS[name](double) / double).numpy()
    np.testing.assert_allclose(np.asarray(multiplier)[away], quotient[away], atol=1e-6)


def layer_case(shape, seed=0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x, cotangent = (draw.standard_normal(shape, np.float32) for _ in range(2))
    return 3.0 * x + 1.0, cotangent


def check_layer(ours, theirs, reference, x, cotangent, tolerance):
    """Values and gradients of a layer, and of its frozen twin."""
    for rules, module in ((gradient, theirs), (effective, reference)):
        value, pull = jax.vjp(lambda x, rules=rules: ours(x, rules), jnp.asarray(x))
        expected, slope = logits_and_gradient(module, torch.from_numpy(x)[None], torch.from_numpy(cotangent)[None])
        assert distance(value, expected[0].numpy()) < tolerance
        assert distance(pull(jnp.asarray(cotangent))[0], slope[0].numpy()) < tolerance


@pytest.mark.parametrize("eps", [1e-6, 1e-1])
@pytest.mark.parametrize("kind", ["LayerNorm", "RmsNorm"])
def test_norm(kind, eps):
    module = randomise(getattr(timm.layers, kind)(48, eps=eps), seed=1)
    names = {"weight": "scale", "bias": "bias"}
    weights = {names[name]: jnp.asarray(value.numpy()) for name, value in module.state_dict().items()}
    function = layers.layer_norm if kind == "LayerNorm" else layers.rms_norm
    x, cotangent = layer_case((9, 48))
    check_layer(lambda x, rules: function(weights, x, rules, eps=eps)[0], module, frozen(module), x, cotangent, 2e-6)


@pytest.mark.parametrize("normed", [False, True])
def test_attention(normed):
    module = timm.layers.Attention(48, 3, qkv_bias=True, qk_norm=normed, scale_norm=normed, norm_layer=timm.layers.LayerNorm)
    module = randomise(module, seed=2)
    arrays = {name: jnp.asarray(value.numpy()) for name, value in module.state_dict().items()}
    kernels, biases = jnp.split(arrays["qkv.weight"], 3), jnp.split(arrays["qkv.bias"], 3)
    weights: dict[str, Any] = {
        name: {"kernel": kernel.T, "bias": bias} for name, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True)
    }
    weights["proj"] = {"kernel": arrays["proj.weight"].T, "bias": arrays["proj.bias"]}
    if normed:
        for ours, theirs in (("query_norm", "q_norm"), ("key_norm", "k_norm"), ("norm", "norm")):
            weights[ours] = {"scale": arrays[f"{theirs}.weight"], "bias": arrays[f"{theirs}.bias"]}
    x, cotangent = layer_case((9, 48), seed=3)

    def ours(x, rules):
        return layers.attention(weights, x / 3.0, rules, num_heads=3, eps=1e-6)[0]

    class Scaled(torch.nn.Module):
        def __init__(self, attention):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x / 3.0)

    check_layer(ours, Scaled(module), Scaled(frozen(module)), x, cotangent, 5e-6)


@pytest.mark.parametrize(
    ("name", "size"),
    [("vit_base_patch16_rpn_224", 16), ("vit_so400m_patch14_siglip_384", 18), ("vit_so400m_patch14_siglip_gap_384", 19)],
)
def test_norms_behind_branches_and_pixels_that_patches_leave_over(name, size, tmp_path):
    check_saved(name, tmp_path, img_size=size)
