"""Baselines that look inside, against hooks on a tiny timm vision transformer (fused attention off)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from timm.models.vision_transformer import VisionTransformer
from torch_reference import randomise

from convert_weights.timm import config_from_options, params_from_arrays
from dave_jax.attribution.baselines.chefer import GenericAttention
from dave_jax.attribution.baselines.grad_cam import AttentionGradCam, GradCam
from dave_jax.attribution.baselines.legrad import LeGrad
from dave_jax.attribution.baselines.rollout import GradientRollout, Rollout
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.vit import ViT

pytestmark = pytest.mark.parity

OPTIONS = dict(img_size=24, patch_size=6, embed_dim=24, depth=3, num_heads=3, num_classes=5, reg_tokens=1, init_values=0.5)
TARGET = 2


@pytest.fixture(scope="module")
def both():
    """What hooks see, and our model and image."""
    theirs = randomise(VisionTransformer(**OPTIONS), seed=3)
    seen: dict[str, list[torch.Tensor]] = {"attention": [], "features": [], "after": []}

    def keep(name):
        return lambda module, inputs, output: seen[name].append(output)

    for block in theirs.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(keep("attention"))
        block.norm1.register_forward_hook(keep("features"))
        block.register_forward_hook(keep("after"))
    config = config_from_options(OPTIONS)
    image = np.random.default_rng(0).standard_normal((24, 24, 3), np.float32)
    logits = theirs(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
    found = {name: [value[0].detach() for value in values] for name, values in seen.items()}
    slopes = torch.autograd.grad(logits[0, TARGET], seen["attention"] + seen["features"], retain_graph=True)
    found["attention_slope"], found["features_slope"] = [s[0] for s in slopes[:3]], [s[0] for s in slopes[3:]]
    found["own_slope"] = []
    for attention, after in zip(seen["attention"], seen["after"], strict=True):
        score = theirs.head(theirs.norm(after.mean(1)))[0, TARGET]
        found["own_slope"].append(torch.autograd.grad(score, attention, retain_graph=True)[0][0])
    arrays = {name: value.numpy().copy() for name, value in theirs.state_dict().items()}
    params = jax.tree.map(jnp.asarray, params_from_arrays(arrays, config))
    return found, Model(params, ViT(config), preprocessing=Preprocessing(image_size=(24, 24))), image


def rolled(matrices, *, normalise):
    product = torch.eye(18)
    for fused in matrices:
        step = torch.eye(18) + fused
        product = (step / step.sum(1, keepdim=True) if normalise else step) @ product
    return product[0, 2:]


def expected(method, found):
    pairs = list(zip(found["attention"], found["attention_slope"], strict=True))
    if isinstance(method, Rollout):
        return rolled([attention.mean(0) for attention in found["attention"]], normalise=True)
    if isinstance(method, GradientRollout):
        return rolled([(attention * slope).mean(0).clamp(min=0) for attention, slope in pairs], normalise=True)
    if isinstance(method, GenericAttention):
        return rolled([(attention * slope).clamp(min=0).mean(0) for attention, slope in pairs], normalise=False)
    if isinstance(method, LeGrad):
        return sum(slope.clamp(min=0).mean((0, 1))[2:] for slope in found["own_slope"][method.first_block :])
    if isinstance(method, GradCam):
        return found["features"][method.block][2:] @ found["features_slope"][method.block][2:].mean(0)
    attention, slope = pairs[-1]
    return (attention[:, 0, 2:] * slope[:, 0, 2:].mean(1, keepdim=True)).mean(0)


METHODS = [
    Rollout(),
    GradientRollout(),
    GenericAttention(),
    LeGrad(),
    LeGrad(first_block=-2),
    GradCam(),
    GradCam(block=1),
    AttentionGradCam(),
]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_maps(method, both):
    """The same numbers after torch's own bilinear interpolation; 1e-4 of the largest, for float32 on both sides."""
    found, model, image = both
    patches = expected(method, found).reshape(1, 1, 4, 4)
    theirs = torch.nn.functional.interpolate(patches, size=(24, 24), mode="bilinear", align_corners=False)[0, 0].numpy()
    ours = np.asarray(method(model, jnp.asarray(image)[None], [TARGET], raw=True))[0]
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
    assert theirs.std() > 1e-3 * np.abs(theirs).max()
