"""What happens inside: the tokens after every block against those of the source library, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import timm
import torch
from conv_twins import assert_close
from torch_reference import randomise, with_exact_coordinates

from convert_weights.config_json import describe
from dave_jax.effective.decomposition import gradient
from dave_jax.models.families import FAMILIES
from dave_jax.models.swin import Swin

pytestmark = pytest.mark.parity

SMALL = {"img_size": (16, 24), "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4, "num_classes": 5}
SMALL_SWIN = {
    "img_size": (22, 36),
    "patch_size": 2,
    "embed_dim": 8,
    "depths": (3, 2),
    "num_heads": (2, 4),
    "window_size": 3,
    "num_classes": 5,
}
CASES = {  # architectures of timm, one for each way of placing norms, scales, tokens and positions
    "vit_base_patch16_224": {},
    "vit_base_patch16_clip_quickgelu_224": {},  # a norm in front
    "vit_small_patch14_reg4_dinov2": {},
    "vit_giant_patch14_dinov2": {"mlp_ratio": 2},  # a packed SwiGLU
    "vit_base_patch16_siglip_224": {},
    "deit_small_distilled_patch16_224": {},
    "deit3_small_patch16_224": {},
    "vit_so150m2_patch16_reg1_gap_256": {"mlp_ratio": 2},
    "aimv2_large_patch14_224": {},
    "eva02_base_patch14_224": {},
    "eva02_base_patch16_clip_224": {},
    "eva02_enormous_patch14_clip_224": {"mlp_ratio": 2},  # norms behind the branches
    "vit_small_patch16_dinov3": {},
    "vit_small_plus_patch16_dinov3_qkvb": {"mlp_ratio": 2},
    "vit_small_patch16_rope_mixed_ape_224": {},
    "vit_pe_core_base_patch16_224": {},
    "beit_base_patch16_224": {},
    "beitv2_base_patch16_224": {},
    "swin_tiny_patch4_window7_224": {},
    "swinv2_tiny_window8_256": {"pretrained_window_sizes": (2, 4)},
}


def build(name):
    """timm's network in double precision with random parameters, and ours of its state dict, which is exact in single precision."""
    options = (SMALL_SWIN if name.startswith("swin") else SMALL) | CASES[name]
    model = randomise(timm.create_model(name, **options), seed=len(name))
    read = describe({"architecture": name, "model_args": options})
    params = read.params({key: value.numpy() for key, value in model.state_dict().items()})
    ours = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
    return FAMILIES[read.family].network(read.config), ours, with_exact_coordinates(model.double())


def blocks_of(model):
    """timm's modules whose outputs are the tokens, in the order in which they run."""
    if hasattr(model, "blocks"):
        return list(model.blocks)
    return [module for stage in model.layers for module in (stage.downsample, *stage.blocks) if not isinstance(module, torch.nn.Identity)]


def theirs(model, image):
    """The tokens before the first block and after every one, and the logits."""
    seen, blocks = [], blocks_of(model)
    blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    for block in blocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    with torch.no_grad():
        logits = model(torch.from_numpy(image.transpose(2, 0, 1)[None].copy()))[0]
    return [tokens.reshape(-1, tokens.shape[-1]).numpy() for tokens in seen], logits.numpy()


def ours(network, params, image):
    """The same of ours."""
    if not isinstance(network, Swin):
        logits, inside = network.intermediates(params, image)
        return [*inside.tokens], logits
    config, (tokens, _) = network.config, network.embed(params, image, gradient)
    seen = [tokens]
    for index, depth in enumerate(config.depths):
        stage = params["stages"][str(index)]
        if index:
            tokens, _ = network.merge(stage["merge"], tokens, gradient, stage=index)
            seen.append(tokens)
        for i in range(depth):
            block = jax.tree.map(lambda leaf, i=i: leaf[i], stage["blocks"])
            tokens, _ = network.block(block, tokens, gradient, stage=index, windows=config.cuts(index)[i % 2])
            seen.append(tokens)
    logits, _ = network.head(params, tokens, gradient)
    np.testing.assert_allclose(logits, network(params, image), rtol=1e-12)  # what `scan` computes is no other
    return seen, logits


@pytest.mark.parametrize("name", CASES)
def test_tokens_after_every_block(name, x64):
    network, params, model = build(name)
    image = np.random.default_rng(0).standard_normal((*network.config.image_size, 3))
    expected, logits = theirs(model, image)
    tokens, values = ours(network, params, jnp.asarray(image))
    assert len(tokens) == len(expected) > 3
    tolerance = 1e-6 if getattr(network.config, "rotary", None) else 1e-10  # timm computes the angles in single precision
    for mine, other in zip(tokens, expected, strict=True):
        assert_close(mine, other, tolerance)
    assert_close(values, logits, tolerance)
