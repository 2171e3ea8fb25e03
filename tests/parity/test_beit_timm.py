"""Small random networks of timm's `Beit` against their conversions: logits, gradients, other image sizes, tables, keys."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from conv_twins import check_arrays, kinds
from timm.layers import resize_rel_pos_bias_table
from timm.models.beit import gen_relative_position_index
from vit_twins import SMALL, check_saved

from dave_jax.models.relative import num_entries, relative_index, resample_relative

pytestmark = [  # timm's interpolator warns of itself
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning"),
    pytest.mark.filterwarnings("ignore:torch.searchsorted:UserWarning"),
]

CASES = {  # what differs from the small network, other image sizes
    "own": ({}, [24, 8, (12, 20)]),
    "oblong": ({"img_size": (12, 20)}, []),
    "shared": ({"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True, "num_classes": 0}, []),
    "absolute": ({"use_rel_pos_bias": False, "use_abs_pos_emb": True, "init_values": None, "global_pool": "token"}, [24]),
    "swiglu": ({"swiglu_mlp": True, "scale_mlp": True, "qkv_bias": False, "use_fc_norm": False}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_timm_saves_is_what_we_load(case, tmp_path):
    options, sizes = CASES[case]
    check_saved("beit_base_patch16_224", tmp_path, *sizes, **options)


@pytest.mark.parametrize("name", kinds("beit", {"img_size", "embed_dim", "depth", "num_heads", "num_classes"}))
def test_timms_state_dict_has_the_arrays_that_the_options_say(name):
    check_arrays(name, **SMALL)


@pytest.mark.parametrize("grid", [(1, 1), (3, 3), (2, 5), (14, 14)])
def test_indices_are_timms(grid):
    np.testing.assert_array_equal(relative_index(grid), gen_relative_position_index(grid).numpy())


@pytest.mark.parametrize("grid", [(1, 1), (3, 3), (4, 7), (16, 14), (24, 24), (32, 32)])
@pytest.mark.parametrize("old_grid", [(2, 2), (14, 14), (5, 3), (24, 24)])
def test_tables_are_resampled_as_timm_does(old_grid, grid):
    table = np.random.default_rng(0).standard_normal((num_entries(old_grid), 2), np.float32)
    shape = (num_entries(grid), 2)
    theirs = resize_rel_pos_bias_table(torch.from_numpy(table), grid, shape, old_window_size=old_grid).numpy()
    np.testing.assert_allclose(resample_relative(table, grid, old_grid=old_grid), theirs, rtol=0, atol=2e-5)
