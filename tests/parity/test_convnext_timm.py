"""Small random timm ConvNeXts against their conversions: values, gradients, effective transformations, and every architecture's arrays."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import timm
from conv_twins import check_arrays, check_saved, check_twins, kinds
from timm.models.convnext import ConvNeXt

pytestmark = pytest.mark.parity

SMALL = {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 32), "kernel_sizes": (3, 3, 3, 3), "num_classes": 5}
CASES = {
    "v1": {"kernel_sizes": 7},
    "v2": {"use_grn": True, "ls_init_value": None, "conv_mlp": True},
    "norm_first": {"head_norm_first": True, "conv_mlp": True, "stem_type": "overlap", "norm_eps": 1e-2},
    "rms": {"norm_layer": "rmsnorm2d", "conv_mlp": True, "stem_type": "overlap_tiered", "dims": (40, 48, 56, 64), "act_layer": "silu"},
    "simple": {"norm_layer": "simplenorm", "conv_mlp": True},
    "everything": {"stem_type": "overlap_act", "head_hidden_size": 24, "act_layer": "gelu_tanh", "conv_bias": False},
    "kernels": {"kernel_sizes": (5, 3, 3, 1), "num_classes": 0},
}


@pytest.mark.parametrize(("case", "size"), [("norm_first", (64, 64)), *((case, (45, 70)) for case in CASES)])
def test_twins(case, size, x64):
    options = SMALL | CASES[case]
    check_twins("convnext", ConvNeXt(**options), options, size, effective=case != "simple")


def test_a_real_one(x64):
    options = {"depths": (2, 2, 6, 2), "dims": (40, 80, 160, 320), "conv_mlp": True}
    check_twins("convnext", timm.create_model("convnext_atto"), options, (96, 96), effective=False)


@pytest.mark.parametrize("name", kinds("convnext", {"depths", "dims", "num_classes", "head_hidden_size"}))
def test_timms_state_dict_has_the_arrays_that_the_options_say(name):
    check_arrays(name, depths=(1, 2, 1, 1), dims=(16, 24, 32, 40))


@pytest.mark.parametrize("name", ["test_convnext", "convnextv2_atto"])
def test_what_timm_saves_is_what_we_load(name, tmp_path):
    check_saved(name, tmp_path, depths=(1, 2, 1, 1))
