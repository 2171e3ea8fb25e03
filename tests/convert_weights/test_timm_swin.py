"""timm's SwinTransformer, V1 and V2: options, and state dicts that are laid out by hand."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from timm_checkpoints import assert_same

from convert_weights import timm_swin, timm_swinv2
from convert_weights.architectures import architectures
from convert_weights.config_json import describe
from convert_weights.table import ConversionError
from dave_jax.models import hub
from dave_jax.models.relative import resample_relative
from dave_jax.models.swin import Swin
from dave_jax.models.swin_config import init_params

CONVERTERS = {"swin_transformer": timm_swin, "swin_transformer_v2": timm_swinv2}
SMALL = {"img_size": [16, 24], "embed_dim": 4, "depths": [1, 2], "num_heads": [1, 2], "window_size": [2, 3], "num_classes": 3}


def case(name, *, merged_behind=False, **options):
    """Configuration, random parameters, and timm's state dict of these."""
    config = CONVERTERS[name].config_from_options(SMALL | options)
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: init_params(key, config), jax.random.key(0))
    params = jax.tree.map(lambda leaf: draw.standard_normal(leaf.shape, np.float32), shapes)
    state: dict[str, np.ndarray] = {}

    def put(key, part):
        for leaf, value in part.items():
            state[f"{key}.{'bias' if leaf in ('bias', 'offset') else 'weight'}"] = value.T if leaf == "kernel" else value

    put("patch_embed.proj", {"bias": params["patch_embedding"]["bias"]})
    state["patch_embed.proj.weight"] = np.einsum("hwco->ochw", params["patch_embedding"]["kernel"].reshape(4, 4, 3, 4))
    put("patch_embed.norm", params["patch_norm"])
    for s, stage in params["stages"].items():
        for name_, part in stage.get("merge", {}).items():
            put(f"layers.{int(s) - merged_behind}.downsample.{name_.removeprefix('post_')}", part)
        for i in range(config.depths[int(s)]):
            block, key = jax.tree.map(lambda leaf, i=i: leaf[i], stage["blocks"]), f"layers.{s}.blocks.{i}"
            attention = block["attention"]
            for number, branch in ((1, "attention"), (2, "mlp")):
                put(f"{key}.norm{number}", block[f"{branch}_norm" if config.version == 1 else f"{branch}_post_norm"])
            put(f"{key}.attn.proj", attention["proj"])
            put(f"{key}.mlp.fc1", block["mlp"]["fc1"])
            put(f"{key}.mlp.fc2", block["mlp"]["fc2"])
            three = [attention[name_] for name_ in ("query", "key", "value")]
            state[f"{key}.attn.qkv.weight"] = np.concatenate([part["kernel"].T for part in three])
            if config.version == 1:
                state[f"{key}.attn.qkv.bias"] = np.concatenate([part["bias"] for part in three])
                state[f"{key}.attn.relative_position_bias_table"] = attention["relative_position"]
            else:
                state[f"{key}.attn.q_bias"], state[f"{key}.attn.v_bias"] = three[0]["bias"], three[2]["bias"]
                state[f"{key}.attn.logit_scale"] = attention["logit_scale"][:, None, None]
                put(f"{key}.attn.cpb_mlp.0", attention["position_mlp"]["fc1"])
                put(f"{key}.attn.cpb_mlp.2", attention["position_mlp"]["fc2"])
    put("norm", params["final_norm"])
    put("head" if merged_behind else "head.fc", params["head"])
    return config, params, {key: np.ascontiguousarray(value) for key, value in state.items()}


@pytest.mark.parametrize("merged_behind", [False, True])
@pytest.mark.parametrize("name", CONVERTERS)
def test_a_state_dict_becomes_the_parameters_it_was_made_of(name, merged_behind):
    config, params, state = case(name, merged_behind=merged_behind)
    state["layers.1.blocks.1.attn_mask"] = np.zeros((2, 9, 9), np.float32)  # which older files have
    state["layers.0.blocks.0.attn.relative_position_index"] = np.zeros((4, 4), np.int64)
    state["layers.0.blocks.0.attn.relative_coords_table"] = np.zeros((1, 3, 3, 2), np.float32)
    assert_same(CONVERTERS[name].params_from_arrays(state, config), params)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("swin_transformer", "layers.1.blocks.1.attn.relative_position_bias_table"),
        ("swin_transformer_v2", "layers.0.blocks.0.attn.cpb_mlp.2.weight"),
        ("swin_transformer_v2", "layers.1.downsample.norm.bias"),
    ],
)
def test_a_renamed_key_is_missing_and_left_over(name, key):
    config, _, state = case(name)
    state["other"] = state.pop(key)
    with pytest.raises(ConversionError, match=rf"(?s)missing {key}.*leftover other"):
        CONVERTERS[name].params_from_arrays(state, config)


@pytest.mark.parametrize("shape", [(), (3,), (24, 1), (25, 2, 2)])
def test_a_misshapen_table_is_named(shape):
    config, _, state = case("swin_transformer")
    key = "layers.0.blocks.0.attn.relative_position_bias_table"
    state[key] = np.zeros(shape, np.float32)
    with pytest.raises(ConversionError, match=rf"{key} has shape"):
        timm_swin.params_from_arrays(state, config, checkpoint_size=(16, 24))


@pytest.mark.parametrize("name", CONVERTERS)
def test_a_folder_in_timms_layout_loads_at_its_own_size_and_another(name, tmp_path):
    config, params, state = case(name, window_size=[[2, 2], [8, 8]])
    save_file(state, tmp_path / "model.safetensors")
    images = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.95, "interpolation": "bilinear"}
    options = SMALL | {"window_size": [[2, 2], [8, 8]]}
    document = {"architecture": name, "model_args": options, "pretrained_cfg": images, "label_names": ["a", "b", "c"]}
    (tmp_path / "config.json").write_text(json.dumps(document))
    model = hub.load(tmp_path)
    assert_same(model.params, params)
    assert model.forward == Swin(config) and config.cuts(1)[0].window == (2, 3)  # no more than the map
    assert model.preprocessing.image_size == (16, 24) and model.preprocessing.mean == (0.1, 0.2, 0.3)
    assert model.class_names == ("a", "b", "c")
    large = hub.load(tmp_path, image_size=(32, 40))
    assert large.forward.config.cuts(1)[0].window == (4, 5)
    if config.version == 1:
        own, other = (found.params["stages"]["1"]["blocks"]["attention"]["relative_position"] for found in (model, large))
        np.testing.assert_array_equal(other[1], resample_relative(np.asarray(own[1]), (4, 5), old_grid=(2, 3), class_token=False))
    else:
        assert_same(large.params, params)
    with pytest.raises(ValueError, match=r"multiple of the patch size \(4, 4\); got \(30, 40\)"):
        hub.load(tmp_path, image_size=(30, 40))


def test_every_architecture_loads():
    found = [name for name, entry in architectures().items() if entry["family"] in ("swin", "swinv2")]
    assert len(found) == 21
    for name in found:
        read = describe({"architecture": name})
        assert read.family == "swin" and read.config.image_size == read.checkpoint_size
    read = describe({"architecture": "swin_s3_tiny_224"})
    assert read.config.windows == ((7, 7), (7, 7), (14, 14), (7, 7))
    read = describe({"architecture": "swinv2_base_window12to24_192to384"})
    assert (read.config.version, read.config.pretrained_windows, read.config.cuts(3)[0].window) == (2, (12, 12, 12, 6), (12, 12))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"architecture": "swin_transformer", "model_args": {"head_dim": 8}}, "head_dim is not supported"),
        ({"architecture": "swin_transformer", "model_args": {"norm_layer": "RmsNorm"}}, "norm_layer='rmsnorm' is not supported"),
        ({"architecture": "swin_transformer_v2", "model_args": {"depth": 3}}, "timm's SwinTransformerV2 .*unknown option depth=3"),
        ({"architecture": "swin_transformer", "model_args": {"pretrained_window_sizes": [1]}}, "unknown option pretrained_window_sizes"),
        ({"architecture": "swin_tiny_patch4_window7_224", "global_pool": "max"}, "global_pool='max' is not supported"),
        ({"architecture": "swin_transformer", "model_args": {"window_size": [7, 7, 7]}}, "one entry for each stage"),
    ],
)
def test_what_is_not_supported_is_named(document, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        describe(document)
