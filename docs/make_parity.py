"""Measures `parity.json`, the errors in the table of docs/models.md: `python docs/make_parity.py`, with timm and torch.

For each lineage a small random network of timm, saved by it and read by `dave.load`: the largest differences of logits and of their
gradients with respect to two random images of 32 pixels, in float32, each relative to the largest value.
"""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

import dave_jax as dave

FILE = Path(__file__).with_name("parity.json")
_SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}
_SWIN = {"img_size": 32, "patch_size": 2, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "num_classes": 5}
TWINS: dict[str, tuple[str, dict[str, Any]]] = {
    "DeiT-III": ("deit3_small_patch16_224", _SMALL),
    "DeiT, distilled or not": ("deit_small_distilled_patch16_224", _SMALL),
    "EVA, EVA-02": ("eva02_base_patch14_224", _SMALL),
    "DINOv3": ("vit_small_patch16_dinov3", _SMALL),
    "DINOv2": ("vit_small_patch14_reg4_dinov2", _SMALL),
    "DINO": ("vit_small_patch16_224", _SMALL),
    "MAE": ("vit_base_patch16_224", _SMALL),
    "CLIP, image towers and fine-tuned": ("vit_base_patch16_clip_quickgelu_224", _SMALL),
    "SigLIP, SigLIP 2, image towers": ("vit_base_patch16_siglip_224", _SMALL),
    "TIPS v2": ("vit_base_patch14_reg1_tipsv2", _SMALL),
    "AIMv2": ("aimv2_large_patch14_224", _SMALL),
    "BEiT, BEiT v2, BEiT-3": ("beit_base_patch16_224", _SMALL),
    "C-RADIO": ("vit_base_patch16_radio_v3", _SMALL),
    "FlexiViT": ("flexivit_small", _SMALL),
    "RoPE-ViT": ("vit_small_patch16_rope_224", _SMALL),
    "other vision transformers": ("vit_small_patch16_384", _SMALL),
    "Swin": ("swin_tiny_patch4_window7_224", _SWIN),
    "Swin V2": ("swinv2_tiny_window8_256", _SWIN),
    "ResNet, ResNeXt, Wide ResNet": ("test_resnet", {"num_classes": 5}),
    "ConvNeXt, V1 and V2": ("test_convnext", {"num_classes": 5}),
}
"""One architecture of a lineage, and the options that make it small; lineages may share one."""


def measure(name: str, options: dict[str, Any]) -> dict[str, float]:
    """The two errors of one network."""
    import timm
    import torch

    torch.manual_seed(0)
    theirs = timm.create_model(name, **options).eval()
    with torch.no_grad():
        for value in theirs.parameters():  # norms' scales and biases too, and attention that is not flat
            value.add_(0.2 * torch.randn_like(value))
    with tempfile.TemporaryDirectory() as folder:
        timm.models.save_for_hf(theirs, folder, safe_serialization=True)
        ours = dave.load(folder, image_size=_SMALL["img_size"])  # in more pixels some ReLU is within rounding of its kink
    draw = np.random.default_rng(0)
    images = draw.standard_normal((2, *ours.preprocessing.image_size, 3), np.float32)
    there = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    expected = theirs(there)
    cotangents = draw.standard_normal(expected.shape, np.float32)
    (slopes,) = torch.autograd.grad(expected, there, torch.from_numpy(cotangents))

    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def explain(params, image, cotangent):
        value, pull = jax.vjp(lambda image: ours.forward(params, image, "gradient"), image)
        return value, pull(cotangent)[0]

    logits, gradients = jax.jit(explain)(ours.params, images, cotangents)
    pairs = {"logits": (logits, expected.detach().numpy()), "gradients": (gradients, slopes.numpy().transpose(0, 2, 3, 1))}
    return {what: float(f"{np.abs(mine - other).max() / np.abs(other).max():.1e}") for what, (mine, other) in pairs.items()}


def main() -> None:
    """Measure every lineage and write the file."""
    found = {lineage: {"architecture": name, **measure(name, options)} for lineage, (name, options) in TWINS.items()}
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
