"""LRP by lxt and zennit, run as oracles, against ours: gradients of tiny random vision transformers in double precision.

lxt's rules arrive through its own patch functions, applied to subclasses so that no module of torch is changed for other tests. What is
compared with what:

- its patches for torchvision's ViT (`vit_torch.cp_LRP`: identity rule at the activation, CP-LRP inside attention) are `cp_lrp_identity`;
- its wrappers of attention functions, `wrap_attention_forward` (AttnLRP) and `cp_wrap_attention_forward`, around timm's attention are
  `attn_lrp` and `cp_lrp_identity`; its gated MLPs likewise;
- its explicit LRP rules, which pass relevance and not gradients, at one attention;
- zennit's Gamma, alone and under lxt's patch of it, is `GammaLinear`, where no bias takes part.
"""

import dataclasses
import importlib.util
import sys
import types
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("lxt")
pytest.importorskip("zennit")

import timm.layers
import torch
import zennit.rules
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch_reference import randomise
from torchvision.models import vision_transformer as torchvision_vit
from zennit.composites import LayerMapComposite
from zennit.core import BasicHook

from convert_weights.timm import config_from_options, params_from_arrays
from dave_jax.effective import layers
from dave_jax.effective.decomposition import attn_lrp, presets
from dave_jax.effective.gamma import GammaLinear
from dave_jax.effective.operators import Dense
from dave_jax.models.vit import ViT


def _without_its_language_models() -> None:
    """`lxt.efficient` imports patches for every language model it knows, which ask for releases of transformers that are long gone.

    A package of that name with the same folder and nothing imported takes its place; what is imported from it is lxt's.
    """
    name = "lxt.efficient.models"
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = [str(Path(importlib.util.find_spec("lxt").submodule_search_locations[0]) / "efficient" / "models")]
        package.get_default_map = lambda module: None
        sys.modules[name] = package


_without_its_language_models()

explicit = pytest.importorskip("lxt.explicit.functional")
efficient = pytest.importorskip("lxt.efficient")
patches = pytest.importorskip("lxt.efficient.patches")
vit_torch = pytest.importorskip("lxt.efficient.models.vit_torch")

pytestmark = pytest.mark.parity


class LayerNorm(timm.layers.LayerNorm):
    pass


class PlainLayerNorm(nn.LayerNorm):
    pass


class Gelu(nn.GELU):
    pass


class SelfAttention(nn.MultiheadAttention):
    pass


class _GatedMlp(timm.layers.SwiGLU):
    """timm's, with the names that lxt's patches of gated MLPs use."""

    gate_proj = property(lambda self: self.fc1_g)
    up_proj = property(lambda self: self.fc1_x)
    down_proj = property(lambda self: self.fc2)
    act_fn = property(lambda self: self.act)


class AttnGatedMlp(_GatedMlp):
    pass


class CPGatedMlp(_GatedMlp):
    pass


class _Attention(timm.layers.Attention):
    """timm's attention around a function of (module, query, key, value), which lxt's wrappers take."""

    function = staticmethod(lambda module, query, key, value: nn.functional.scaled_dot_product_attention(query, key, value))

    def forward(self, x, **_):
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = self.function(self, self.q_norm(query), self.k_norm(key), value)
        return self.proj(self.norm(mixed.transpose(1, 2).flatten(2)))


class AttnAttention(_Attention):
    function = staticmethod(patches.wrap_attention_forward(_Attention.function))


class CPAttention(_Attention):
    function = staticmethod(patches.cp_wrap_attention_forward(_Attention.function))


efficient.monkey_patch(
    None,
    {
        LayerNorm: partial(patches.patch_method, patches.layer_norm_forward),
        PlainLayerNorm: vit_torch.cp_LRP[nn.LayerNorm],
        Gelu: vit_torch.cp_LRP[nn.GELU],
        SelfAttention: vit_torch.cp_LRP[nn.MultiheadAttention],
        AttnGatedMlp: partial(patches.patch_method, patches.gated_mlp_forward),
        CPGatedMlp: partial(patches.patch_method, patches.cp_gated_mlp_forward),
    },
)
TORCHVISION = {nn.LayerNorm: PlainLayerNorm, nn.GELU: Gelu, nn.MultiheadAttention: SelfAttention}
TIMM = {timm.layers.LayerNorm: LayerNorm, nn.GELU: Gelu}
ATTN_LRP = TIMM | {timm.layers.Attention: AttnAttention, timm.layers.SwiGLU: AttnGatedMlp}
CP_LRP = TIMM | {timm.layers.Attention: CPAttention, timm.layers.SwiGLU: CPGatedMlp}

SMALL = dict(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, mlp_ratio=2, num_classes=5)
NO_BIAS = dict(qkv_bias=False, proj_bias=False)


@pytest.fixture
def zennit_gamma(monkeypatch):
    """zennit in lxt's gradient form, for one test."""
    for name in ("forward", "backward"):
        monkeypatch.setattr(BasicHook, name, getattr(BasicHook, name))
    efficient.monkey_patch_zennit()


def exchange(model: nn.Module, kinds: dict[type, type]) -> nn.Module:
    """The model, its modules of some kinds turned into others."""
    for module in model.modules():
        module.__class__ = kinds.get(type(module), type(module))
    return model


def timm_model(**options) -> nn.Module:
    arguments = dict(SMALL) | options
    if arguments.get("mlp_layer") == "SwiGLU":
        arguments |= dict(mlp_layer=timm.layers.SwiGLU, act_layer=nn.SiLU)
    return randomise(VisionTransformer(**arguments), seed=0).double()


def image() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((16, 16, 3))


def theirs(model: nn.Module) -> np.ndarray:
    """The derivative of a fixed contrast of the logits for the image, and so gradient x input but for the image."""
    x = torch.from_numpy(image().transpose(2, 0, 1).copy())[None].requires_grad_(True)
    logits = model(x)
    (gradient,) = torch.autograd.grad((logits[0] * torch.linspace(-1, 2, 5, dtype=torch.float64)).sum(), x)
    return gradient[0].numpy().transpose(1, 2, 0)


def ours(state: dict[str, np.ndarray], options, rules) -> np.ndarray:
    config = config_from_options(SMALL | options)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), params_from_arrays(state, config))
    cotangent = jnp.linspace(-1.0, 2.0, 5)
    return np.asarray(jax.grad(lambda x: jnp.vdot(ViT(config)(params, x, rules), cotangent))(jnp.asarray(image())))


def distance(result, reference) -> float:
    """Largest difference, relative to the largest value."""
    assert result.dtype == reference.dtype == np.float64
    return float(np.abs(result - reference).max() / np.abs(reference).max())


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def torchvision_as_timm(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """torchvision's ViT under timm's names."""
    names = [
        *(("encoder.layers.encoder_layer_", "blocks."), ("ln_1", "norm1"), ("ln_2", "norm2"), ("encoder.ln", "norm")),
        *(("self_attention.in_proj_", "attn.qkv."), ("self_attention.out_proj", "attn.proj"), ("mlp.0", "mlp.fc1"), ("mlp.3", "mlp.fc2")),
        *(("encoder.pos_embedding", "pos_embed"), ("class_token", "cls_token"), ("conv_proj", "patch_embed.proj"), ("heads.head", "head")),
    ]
    renamed = {}
    for key, value in state.items():
        for theirs_, ours_ in names:
            key = key.replace(theirs_, ours_)
        renamed[key] = value
    return renamed


def test_lxt_on_torchvision(x64):
    """lxt's patches as shipped. Its identity rule divides by x + 1e-10."""
    model = torchvision_vit.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48, num_classes=5
    )
    model = randomise(model, seed=0).double()
    state = torchvision_as_timm(arrays(model))
    assert distance(ours(state, {}, "gradient"), theirs(model)) < 1e-10
    model = exchange(model, TORCHVISION)
    assert distance(ours(state, {}, "cp_lrp_identity"), theirs(model)) < 1e-6
    assert distance(ours(state, {}, "gradient"), theirs(model)) > 0.05


@pytest.mark.parametrize(
    "options", [{}, {"qk_norm": True, "reg_tokens": 2, "init_values": 0.5, "global_pool": "avg"}], ids=["plain", "more"]
)
@pytest.mark.parametrize("name", ["attn_lrp", "cp_lrp_identity"])
def test_lxt_on_timm(name, options, x64):
    model = timm_model(**options)
    state = arrays(model)
    reference = theirs(exchange(model, ATTN_LRP if name == "attn_lrp" else CP_LRP))
    apart = {other: distance(ours(state, options, other), reference) for other in ("attn_lrp", "cp_lrp_identity", "cp_lrp")}
    assert apart.pop(name) < 1e-6
    assert min(apart.values()) > 0.01


@pytest.mark.parametrize("name", ["attn_lrp", "cp_lrp_identity"])
def test_lxt_on_a_gated_mlp(name, x64):
    """AttnLRP halves the product, lxt's CP-LRP stops at the gate."""
    options = {"mlp_layer": "SwiGLU", "act_layer": "silu"}
    model = timm_model(mlp_layer="SwiGLU")
    state = arrays(model)
    reference = theirs(exchange(model, ATTN_LRP if name == "attn_lrp" else CP_LRP))
    assert distance(ours(state, options, name), reference) < 1e-6


def test_lxt_explicit_rules_at_attention(x64):
    """Relevance of queries, keys and values by propositions 3.1 and 3.3 of AttnLRP, against argument x derivative."""
    draw = np.random.default_rng(0)
    query, key, value, cotangent = (draw.standard_normal((2, 5, 4)) for _ in range(4))

    tensors = [torch.from_numpy(array).requires_grad_(True) for array in (query / 2.0, key, value)]  # sqrt(c) = 2 is part of the query
    scores = explicit.matmul(tensors[0], tensors[1].transpose(-1, -2), False, 0.0)
    mixed = explicit.matmul(explicit.softmax(scores, dim=-1), tensors[2], False, 0.0)
    relevance = torch.autograd.grad(mixed, tensors, mixed.detach() * torch.from_numpy(cotangent))

    y, pull = jax.vjp(lambda q, k, v: layers.mixing(q, k, v, attn_lrp)[0], *map(jnp.asarray, (query, key, value)))
    assert np.allclose(y, mixed.detach().numpy(), rtol=0, atol=1e-12)
    for array, slope, expected in zip((query, key, value), pull(jnp.asarray(cotangent)), relevance, strict=True):
        assert distance(np.asarray(array * slope), expected.numpy()) < 1e-10


@pytest.mark.parametrize("gamma", [0.05, 0.25, 100.0])
def test_zennit_gamma_on_a_linear_layer(gamma, x64):
    """Relevance against argument x derivative. zennit stabilises its denominators; 1e-12 leaves the rule."""
    draw = np.random.default_rng(0)
    x, kernel, cotangent = draw.standard_normal((4, 6)), draw.standard_normal((6, 3)), draw.standard_normal((4, 3))
    x[1, 2], x[3] = 0.0, 0.0
    layer = nn.Linear(6, 3, bias=False).double()
    layer.weight.data = torch.from_numpy(kernel.T.copy())
    handle = zennit.rules.Gamma(gamma, stabilizer=1e-12).register(layer)
    tensor = torch.from_numpy(x).requires_grad_(True)
    z = layer(tensor)
    (relevance,) = torch.autograd.grad(z, tensor, z.detach() * torch.from_numpy(cotangent))
    handle.remove()
    (slope,) = jax.vjp(GammaLinear(gamma)(Dense(jnp.asarray(kernel), (4, 6))), jnp.asarray(x))[1](jnp.asarray(cotangent))
    assert distance(np.asarray(x * slope), relevance.numpy()) < 1e-9


@pytest.mark.parametrize("name", ["attn_lrp", "cp_lrp_identity"])
def test_lxt_with_zennit_gamma_on_timm(name, zennit_gamma, x64):
    """The gamma rule on the patch embedding and every linear layer, as in lxt's example for vision transformers.

    Biases are zero: zennit counts them as terms of the sum, ours are outside of it. lxt divides by x + 1e-10, zennit by D + 1e-12.
    """
    model = timm_model(**NO_BIAS)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
            module.bias.data.zero_()
    state = arrays(model)
    rules = dataclasses.replace(presets[name], name="gamma", linear=GammaLinear(0.05), embedding=GammaLinear(0.25))
    model = exchange(model, ATTN_LRP if name == "attn_lrp" else CP_LRP)
    rule = partial(zennit.rules.Gamma, stabilizer=1e-12)
    composite = LayerMapComposite([(nn.Conv2d, rule(0.25)), (nn.Linear, rule(0.05))])
    with composite.context(model) as modified:
        reference = theirs(modified)
    assert distance(ours(state, NO_BIAS, rules), reference) < 1e-5
    assert distance(ours(state, NO_BIAS, name), reference) > 0.05
