"""Small random networks of timm's `Eva`, one of each kind, against their conversions: logits, gradients, other image sizes, keys."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import timm.layers
import torch
from conv_twins import check_arrays, kinds
from vit_twins import SMALL, check_saved

from dave_jax.models.rotary import Rotary, rotation

pytestmark = pytest.mark.parity

CASES = {  # architecture: what differs from the small network, other image sizes
    "eva_giant_patch14_224": ({}, [(24, 16)]),
    "eva_giant_patch14_clip_224": ({}, []),
    "eva02_base_patch14_224": ({"num_classes": 0}, [24, (12, 20)]),
    "eva02_small_patch14_336": ({"img_size": 24}, [16]),
    "eva02_base_patch16_clip_224": ({}, [(20, 16)]),
    "eva02_enormous_patch14_clip_224": ({"mlp_ratio": 2}, []),
    "vit_small_patch16_dinov3": ({"num_classes": 0}, [(24, 12)]),
    "vit_small_patch16_dinov3_qkvb": ({"img_size": (16, 24)}, [16]),
    "vit_small_plus_patch16_dinov3": ({"mlp_ratio": 2.2, "global_pool": "token"}, []),
    "vit_giant_patch16_lingbot": ({"num_classes": 0}, []),
    "vit_small_patch16_rope_224": ({"img_size": (16, 24)}, [(24, 16)]),
    "vit_base_patch16_rope_224": ({}, []),
    "vit_small_patch16_rope_ape_224": ({}, [20]),
    "vit_small_patch16_rope_mixed_224": ({}, [(12, 20)]),
    "vit_small_patch16_rope_mixed_ape_224": ({"img_size": (16, 12)}, []),
    "vit_medium_patch16_rope_reg1_gap_256": ({}, [(24, 12)]),
    "vit_mediumd_patch16_rope_reg1_gap_256": ({}, []),
    "vit_pe_core_base_patch16_224": ({"mlp_ratio": 3}, [(12, 20)]),
    "vit_pe_core_gigantic_patch14_448": ({"mlp_ratio": 2}, []),
    "vit_pe_lang_large_patch14_448": ({"num_classes": 0}, [24]),
    "vit_pe_spatial_base_patch16_512": ({"num_classes": 0}, []),
    "vit_base_patch16_sapiens2": ({"num_kv_heads": (4, 2), "img_size": (24, 16), "num_classes": 0}, [(16, 16)]),
}
SIZES = {"img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "num_classes", "num_kv_heads", "ref_feat_shape"}
"""Options that change sizes, but neither names nor ranks of arrays."""


@pytest.mark.parametrize("name", CASES)
def test_what_timm_saves_is_what_we_load(name, tmp_path):
    options, sizes = CASES[name]
    check_saved(name, tmp_path, *sizes, **options)


@pytest.mark.parametrize("name", kinds("eva", SIZES))
def test_timms_state_dict_has_the_arrays_that_the_options_say(name):
    kv_heads = {"num_kv_heads": (4, 2)} if "sapiens2" in name else {}
    check_arrays(name, **SMALL, **kv_heads)


@pytest.mark.parametrize("pairs", ["adjacent", "halves"])
@pytest.mark.parametrize("order", ["yx", "xy"])
@pytest.mark.parametrize("coordinates", ["index", "centred"])
def test_rotations_are_timms(pairs, order, coordinates):
    """To the rounding of timm's angles in float32, some 10 radians."""
    grid, options = (3, 5), {"grid_indexing": {"yx": "ij", "xy": "xy"}[order], "rotate_half": pairs == "halves", "grid_offset": 0.25}
    if coordinates == "index":
        module = timm.layers.RotaryEmbeddingCat(8, in_pixels=False, feat_shape=grid, ref_feat_shape=(4, 7), temperature=50.0, **options)
        ours = Rotary("axial", 50.0, "index", 0.25, (4, 7), order, pairs)
    else:
        module = timm.layers.RotaryEmbeddingDinoV3(8, feat_shape=grid, temperature=50.0, **options)
        ours = Rotary("axial", 50.0, "centred", 0.25, None, order, pairs)
    heads = np.random.default_rng(0).standard_normal((2, 15, 8), np.float32)
    expected = timm.layers.apply_rot_embed_cat(torch.from_numpy(heads), module.get_embed(), half=pairs == "halves").numpy()
    turned = rotation(ours, grid, num_prefix=0, num_heads=2, head_width=8)(heads)
    np.testing.assert_allclose(turned, expected, rtol=0, atol=5e-6)
