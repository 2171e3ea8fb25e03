"""Small random networks of timm's `SwinTransformer` and `SwinTransformerV2` against their conversions: logits, gradients, effective
transformations, other image sizes, keys."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import timm
import torch
from conv_twins import assert_close, check_arrays, check_twins, kinds
from timm.layers import resize_rel_pos_bias_table
from timm.models import swin_transformer, swin_transformer_v2
from torch_reference import with_exact_coordinates
from vit_twins import check_saved

from dave_jax.effective.window_attention import Windows
from dave_jax.models.relative import num_entries, resample_relative
from dave_jax.models.swin_positions import coordinates

pytestmark = [  # timm's interpolator warns of itself
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning"),
    pytest.mark.filterwarnings("ignore:torch.searchsorted:UserWarning"),
]

V1, V2 = "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"
CLASSES = {"swin_transformer": swin_transformer.SwinTransformer, "swin_transformer_v2": swin_transformer_v2.SwinTransformerV2}
SMALL = {"img_size": 32, "patch_size": 2, "embed_dim": 8, "depths": (2, 3), "num_heads": (2, 4), "window_size": 4, "num_classes": 5}
CASES = {  # what differs from the small network
    "filled up": {"img_size": (22, 36), "window_size": 3, "depths": (3, 2, 1), "num_heads": (2, 2, 4)},
    "one window an axis": {"img_size": (8, 26), "window_size": (4, 5), "qkv_bias": False},
    "always partition": {"always_partition": True, "window_size": (12, 5)},
}
ONLY = {
    "swin_transformer": {"by stage": {"window_size": (3, 8), "mlp_ratio": (2, 3), "num_classes": 0}},
    "swin_transformer_v2": {
        "pretrained windows": {"pretrained_window_sizes": (3, 2), "act_layer": "silu", "num_classes": 0},
        "by stage": {"window_size": (3, 8), "mlp_ratio": 2},
    },
}


@pytest.mark.parametrize(("cls", "case"), [(cls, case) for cls in CLASSES for case in (*CASES, *ONLY[cls])])
def test_twins(cls, case, x64):
    options = SMALL | (CASES | ONLY[cls])[case]
    size = options["img_size"]
    model = with_exact_coordinates(CLASSES[cls](**options))
    check_twins(cls, model, options, size if isinstance(size, tuple) else (size, size))


@pytest.mark.parametrize("name", [V1, V2])
def test_what_timm_saves_is_what_we_load(name, tmp_path):
    check_saved(name, tmp_path, 12, (32, 44), small=SMALL)


def test_windows_of_different_edges(tmp_path):
    check_saved(V1, tmp_path, small=SMALL, img_size=(32, 12))  # timm cannot load these tables at another size


@pytest.mark.parametrize("name", [*kinds("swin", {"num_classes", "img_size"}), *kinds("swinv2", {"num_classes", "img_size"})])
def test_timms_state_dict_has_the_arrays_that_the_options_say(name):
    count = 4 if "s3" in name or "to" in name else 2  # which have options for each stage
    check_arrays(name, embed_dim=8, depths=(1, 2, 1, 1)[:count], num_heads=(1, 2, 2, 2)[:count])


@pytest.mark.parametrize("old", [(2, 2), (7, 7), (5, 3), (12, 12)])
@pytest.mark.parametrize("new", [(1, 1), (3, 3), (4, 7), (7, 7), (8, 8)])
def test_tables_are_resampled_as_timm_does(old, new):
    table = np.random.default_rng(0).standard_normal((num_entries(old, class_token=False), 2), np.float32)
    shape = (num_entries(new, class_token=False), 2)
    theirs = resize_rel_pos_bias_table(torch.from_numpy(table), new, shape, old_window_size=old).numpy()
    np.testing.assert_allclose(resample_relative(table, new, old_grid=old, class_token=False), theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("window", "pretrained"), [((4, 4), 0), ((3, 5), 0), ((8, 8), 6), ((1, 4), 2)])
def test_coordinates_are_timms(window, pretrained):
    attention = swin_transformer_v2.WindowAttention(4, window, 2, pretrained_window_size=(pretrained, pretrained))
    assert_close(coordinates(window, pretrained), attention.relative_coords_table.reshape(-1, 2), 1e-6)


@pytest.mark.parametrize("windows", [Windows((8, 8), (4, 4), (2, 2)), Windows((7, 9), (3, 4), (1, 2)), Windows((3, 9), (3, 4), (0, 2))])
def test_what_a_shift_keeps_apart_is_timms(windows):
    block = swin_transformer.SwinTransformerBlock(4, windows.size, 1, None, windows.window, windows.shift)
    assert (block.window_size, block.shift_size) == (windows.window, windows.shift)
    np.testing.assert_array_equal(-100.0 * windows.apart(), block.attn_mask.numpy())


def test_a_real_one(x64):
    """The smallest pretrained architecture at a fraction of its size."""
    options = {"img_size": 64, "embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "window_size": 7}
    check_twins("swin_transformer", timm.create_model(V1, img_size=64), options, (64, 64), effective=False)
