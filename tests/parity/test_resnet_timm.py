"""Small random timm ResNets against their conversions: values, gradients, effective transformations, and every architecture's arrays."""

from functools import partial

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import timm
from conv_twins import check_arrays, check_saved, check_twins, kinds
from timm.layers import SEModule
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

pytestmark = pytest.mark.parity

BLOCKS = {"BasicBlock": BasicBlock, "Bottleneck": Bottleneck}
SMALL = {"layers": (1, 2, 1, 1), "channels": (4, 8, 8, 12), "num_classes": 5}
CASES = {
    "basic": {"block": "BasicBlock"},
    "bottleneck": {"block": "Bottleneck", "layers": (2, 1, 1, 2)},
    "resnext": {"block": "Bottleneck", "cardinality": 4, "base_width": 16, "channels": (16, 16, 16, 32)},
    "wide": {"block": "Bottleneck", "base_width": 128},
    "d": {"block": "Bottleneck", "stem_type": "deep", "stem_width": 8, "avg_down": True},
    "t": {"block": "BasicBlock", "stem_type": "deep_tiered", "stem_width": 16, "avg_down": True, "act_layer": "silu"},
    "rs": {"block": "Bottleneck", "stem_type": "deep", "stem_width": 8, "replace_stem_pool": True, "avg_down": True},
    "mixed": {"block": ["BasicBlock", "Bottleneck", "BasicBlock", "Bottleneck"]},
    "features": {"block": "BasicBlock", "num_classes": 0},
    "squeeze": {"block": "Bottleneck", "block_args": {"attn_layer": "se"}},
    "squeeze_more": {"block": "BasicBlock", "block_args": {"attn_layer": "SEModule(rd_ratio=0.25)"}, "channels": (8, 40, 56, 72)},
    "eca": {"block": "BasicBlock", "block_args": {"attn_layer": "eca"}, "channels": (4, 8, 64, 128)},
}


@pytest.mark.parametrize(("case", "size"), [("d", (64, 64)), *((case, (45, 70)) for case in CASES)])
def test_twins(case, size, x64):
    options = SMALL | CASES[case]
    block = options["block"]
    arguments = options | {"block": BLOCKS[block] if isinstance(block, str) else [BLOCKS[kind] for kind in block]}
    if isinstance(options.get("block_args"), dict) and "SEModule" in options["block_args"]["attn_layer"]:
        arguments["block_args"] = {"attn_layer": partial(SEModule, rd_ratio=0.25)}
    check_twins("resnet", ResNet(**arguments), options, size, effective="block_args" not in options)


def test_a_real_one(x64):
    check_twins("resnet", timm.create_model("resnet18"), {"block": "BasicBlock", "layers": (2, 2, 2, 2)}, (96, 96), effective=False)


@pytest.mark.parametrize("name", kinds("resnet", {"layers", "num_classes"}))
def test_timms_state_dict_has_the_arrays_that_the_options_say(name):
    check_arrays(name, layers=(1, 2, 1, 1))


def test_what_timm_saves_is_what_we_load(tmp_path):
    check_saved("test_resnet", tmp_path)
