"""timm's ResNet and ConvNeXt: options, and state dicts that are laid out by hand."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from timm_checkpoints import assert_same

from convert_weights import timm_convnext, timm_resnet
from convert_weights.__main__ import main
from convert_weights.config_json import describe
from convert_weights.table import ConversionError
from dave_jax.models import hub
from dave_jax.models.families import FAMILIES

CONVERTERS = {"resnet": timm_resnet, "convnext": timm_convnext}
RESNET = {"layers": [1, 3], "channels": [4, 6], "num_classes": 3}
CONVNEXT = {"depths": [1, 2], "dims": [4, 6], "num_classes": 3}
OPTIONS = {
    "resnet basic": RESNET | {"block": "BasicBlock"},
    "resnet d": RESNET | {"stem_type": "deep", "stem_width": 3, "avg_down": True, "cardinality": 2, "base_width": 16},
    "resnet mixed": RESNET | {"block": ["Bottleneck", "BasicBlock"], "replace_stem_pool": True},
    "convnext": CONVNEXT | {"conv_mlp": True},
    "convnext v2": CONVNEXT | {"use_grn": True, "ls_init_value": None, "head_hidden_size": 5, "stem_type": "overlap_act"},
    "convnext norm first": CONVNEXT | {"head_norm_first": True, "norm_layer": "rmsnorm", "conv_bias": False, "stem_type": "overlap"},
}


def family_of(name):
    return name.partition(" ")[0]


def case(name):
    """Configuration, random parameters, and timm's state dict of these."""
    family = family_of(name)
    config = CONVERTERS[family].config_from_options(OPTIONS[name])
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: FAMILIES[family].init_params(key, config), jax.random.key(0))
    params = jax.tree.map(lambda leaf: draw.standard_normal(leaf.shape, np.float32), shapes)
    state: dict[str, np.ndarray] = {}
    (resnet_state if family == "resnet" else convnext_state)(params, config, OPTIONS[name], state)
    return config, params, {key: np.ascontiguousarray(value) for key, value in state.items()}


def put(state, key, part):
    """A layer: kernels to (out, in, ...), and the names of norms."""
    names = {"scale": "weight", "running_variance": "running_var"}
    for leaf, value in part.items():
        if leaf == "kernel":
            state[f"{key}.weight"] = np.moveaxis(value, (-1, -2), (0, 1))
        else:
            state[f"{key}.{names.get(leaf, leaf)}"] = value


def unstacked(stacked):
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(len(jax.tree.leaves(stacked)[0]) if stacked else 0)]


def resnet_state(params, config, options, state):
    places = {1: [("conv1", "bn1")], 3: [("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")]}
    for i, (conv, norm) in enumerate(places[len(config.stem_widths)], 1):
        put(state, conv, params["stem"][f"conv{i}"])
        put(state, norm, params["stem"][f"norm{i}"])
    if "stem_pool" in params:
        put(state, "maxpool.0", params["stem_pool"]["conv"])
        put(state, "maxpool.1", params["stem_pool"]["norm"])
    for s in range(2):
        stage = params["stages"][str(s)]
        for b, block in enumerate([stage["first"], *unstacked(stage.get("blocks"))]):
            for name, part in block.items():
                if name == "shortcut":
                    first = 1 if options.get("avg_down") else 0
                    put(state, f"layer{s + 1}.{b}.downsample.{first}", part["conv"])
                    put(state, f"layer{s + 1}.{b}.downsample.{first + 1}", part["norm"])
                else:
                    put(state, f"layer{s + 1}.{b}.{name.replace('norm', 'bn')}", part)
    put(state, "fc", params["head"])
    for key in [key for key in state if key.endswith("running_mean")]:
        state[key.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)


def convnext_state(params, config, options, state):
    names = {"conv": "conv_dw", "norm": "norm", "fc1": "mlp.fc1", "fc2": "mlp.fc2", "response_norm": "mlp.grn"}
    for place, name in {"overlap": {0: "conv1", 1: "conv2", 2: "norm"}, "overlap_act": {0: "conv1", 2: "conv2", 3: "norm"}}.get(
        config.stem, {0: "conv1", 1: "norm"}
    ).items():
        put(state, f"stem.{place}", params["stem"][name])
    for s in range(2):
        stage = params["stages"][str(s)]
        if s:
            put(state, f"stages.{s}.downsample.0", stage["downsample"]["norm"])
            put(state, f"stages.{s}.downsample.1", stage["downsample"]["conv"])
        for b, block in enumerate(unstacked(stage["blocks"])):
            for name, part in block.items():
                if name == "layer_scale":
                    state[f"stages.{s}.blocks.{b}.gamma"] = part["scale"]
                elif options.get("conv_mlp") and name.startswith("fc"):
                    put(state, f"stages.{s}.blocks.{b}.{names[name]}", part | {"kernel": part["kernel"][None, None]})
                else:
                    put(state, f"stages.{s}.blocks.{b}.{names[name]}", part)
    put(state, "norm_pre" if config.final_norm == "positions" else "head.norm", params["final_norm"])
    if "head_hidden" in params:
        put(state, "head.pre_logits.fc", params["head_hidden"])
    put(state, "head.fc", params["head"])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_state_dict_becomes_the_parameters_it_was_made_of(name):
    config, params, state = case(name)
    assert_same(CONVERTERS[family_of(name)].params_from_arrays(state, config), params)


@pytest.mark.parametrize(("name", "key"), [("resnet basic", "layer2.2.bn1.running_var"), ("convnext", "stages.1.blocks.1.gamma")])
def test_a_renamed_key_is_missing_and_left_over(name, key):
    config, _, state = case(name)
    state["other"] = state.pop(key)
    with pytest.raises(ConversionError, match=rf"(?s)missing {key}.*leftover other"):
        CONVERTERS[family_of(name)].params_from_arrays(state, config)


@pytest.mark.parametrize("name", ["resnet d", "convnext v2"])
def test_a_folder_in_timms_layout_loads_and_converts(name, tmp_path, capsys):
    config, params, state = case(name)
    (tmp_path / "timm").mkdir()
    save_file(state, tmp_path / "timm" / "model.safetensors")
    images = {"input_size": [3, 32, 48], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.95, "interpolation": "bilinear"}
    document = {"architecture": family_of(name), "model_args": OPTIONS[name], "pretrained_cfg": images, "label_names": ["a", "b", "c"]}
    (tmp_path / "timm" / "config.json").write_text(json.dumps(document))
    model = hub.load(tmp_path / "timm")
    assert_same(model.params, params)
    assert model.forward == FAMILIES[family_of(name)].network(config)
    assert model.preprocessing.image_size == (32, 48) and model.preprocessing.mean == (0.1, 0.2, 0.3)
    assert model.preprocessing.crop_fraction == 0.95 and model.class_names == ("a", "b", "c")
    assert hub.load(tmp_path / "timm", image_size=50).preprocessing.image_size == (50, 50)
    assert main([str(tmp_path / "timm"), "-o", str(tmp_path / "ours")]) == 0
    assert "sha256:" in capsys.readouterr().out
    converted = hub.load(tmp_path / "ours")
    assert_same(converted.params, model.params)
    assert (converted.forward, converted.preprocessing) == (model.forward, model.preprocessing)


def test_architectures_by_name():
    read = describe({"architecture": "resnet50d"})
    assert (read.family, read.config.stem_widths, read.config.average_down) == ("resnet", (32, 32, 64), True)
    read = describe({"architecture": "convnextv2_atto", "num_classes": 7})
    assert (read.config.response_norm, read.config.layer_scale, read.config.num_classes) == (True, False, 7)
    assert describe({"architecture": "convnext_xxlarge"}).config.eps == 1e-5
    assert describe({"architecture": "resnext50_32x4d"}).config.inner_width(0) == 128


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"architecture": "resnet18", "model_args": {"block_args": {"attn_layer": "cbam"}}}, "only attn_layer, one of .*'eca'.*'se'"),
        ({"architecture": "senet154"}, "block_reduce_first=2 is not supported"),
        ({"architecture": "resnetaa50"}, "aa_layer='AvgPool2d' is not supported"),
        ({"architecture": "resnet50_gn"}, "norm_layer='groupnorm' is not supported"),
        ({"architecture": "convnext", "model_args": {"norm_layer": "batchnorm2d"}}, "norm_layer 'batchnorm2d' is none of"),
        ({"architecture": "convnext", "model_args": {"norm_layer": "LayerNorm2d(eps=0.1)"}}, "has arguments; only norm_eps is read"),
        ({"architecture": "resnet18", "model_args": {"depth": 3}}, "timm's ResNet .*unknown option depth=3"),
        ({"architecture": "convnext_atto", "model_args": {"patch_size": 8}}, "patch_size=8 is not supported"),
        ({"architecture": "resnet18", "global_pool": "max"}, "global_pool='max' is not supported"),
        ({"architecture": "resnet", "model_args": {"block": "Other", "stem_type": "x"}}, r"(?s)block \['other'\].*stem_type 'x'"),
        ({"architecture": "convnext", "model_args": {"stem_type": "x"}}, "stem_type 'x' is none of"),
    ],
)
def test_what_is_not_supported_is_named(document, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        describe(document)
