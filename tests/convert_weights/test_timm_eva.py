"""timm's `Eva` and `Beit`: options, and state dicts that are laid out by hand."""

import dataclasses

import numpy as np
import pytest
from timm_checkpoints import TINY, assert_same, random_params, to_timm

from convert_weights import timm_beit, timm_eva
from convert_weights.architectures import architectures
from convert_weights.config_json import describe
from convert_weights.table import ConversionError
from dave_jax.models import hub, resize, store
from dave_jax.models.families import FAMILIES
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.relative import num_entries, resample_relative
from dave_jax.models.rotary import Rotary

ROPE = {"use_rot_pos_emb": True, "num_heads": 3}
OPTIONS = {
    "eva": {},
    "eva02": ROPE | {"qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "ref_feat_shape": [4, 4]},
    "clip": ROPE | {"scale_attn_inner": True, "global_pool": "token", "qkv_bias": False, "swiglu_mlp": True},
    "dinov3": ROPE | {"init_values": 1e-5, "num_reg_tokens": 2, "use_abs_pos_emb": False, "rope_type": "dinov3", "use_fc_norm": False},
    "pe": ROPE | {"attn_type": "rope", "global_pool": "map", "use_pre_transformer_norm": True, "attn_pool_num_heads": 4},
    "mixed": ROPE | {"attn_type": "rope", "rope_type": "mixed", "init_values": 1e-5, "qk_norm": True},
    "post": {"use_post_norm": True, "init_values": 1e-5},
}


def to_eva(params, config, *, fused=True) -> dict[str, np.ndarray]:
    """The state dict of `Eva` or `Beit` that has these parameters: that of `VisionTransformer` under other names."""
    params = dict(params) | {"blocks": dict(params["blocks"])}
    for name in ("attention", "mlp"):
        if config.post_norm:
            params["blocks"][f"{name}_norm"] = params["blocks"].pop(f"{name}_post_norm")
    state = {}
    with_biases = config.qkv_bias and config.key_bias
    plain = dataclasses.replace(config, qkv_bias=with_biases)
    if not with_biases:
        attention = params["blocks"]["attention"]
        bare = {name: {"kernel": attention[name]["kernel"]} for name in ("query", "key", "value")}
        params["blocks"]["attention"] = attention | bare
        if config.qkv_bias:
            for i in range(config.depth):
                for name in ("query", "value"):
                    state[f"blocks.{i}.attn.{name[0]}_{'bias' if fused else 'proj.bias'}"] = attention[name]["bias"][i]
    for key, array in to_timm(params, plain, packed_gate=not config.mlp_norm).items():
        for theirs, ours in {"ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2"}.items():
            key = key.replace(theirs, ours)
        if fused or "qkv" not in key:
            state[key] = array
        else:
            state |= {key.replace("qkv", f"{name}_proj"): part for name, part in zip("qkv", np.split(array, 3), strict=True)}
    attention = params["blocks"]["attention"]
    for i, table in enumerate(attention.get("relative_position", ())):
        state[f"blocks.{i}.attn.relative_position_bias_table"] = table
    if "frequencies" in attention:
        state["rope.freqs"] = attention["frequencies"].swapaxes(0, 1)
    return state


@pytest.mark.parametrize("name", OPTIONS)
def test_a_state_dict_becomes_the_parameters_it_was_made_of(name):
    config = timm_eva.config_from_options(TINY | OPTIONS[name])
    params = random_params(config)
    state = to_eva(params, config, fused=OPTIONS[name].get("qkv_fused", True))
    assert_same(timm_eva.params_from_arrays(state | {"mask_token": np.zeros(1)}, config), params)
    state["head.scale"] = state.pop("patch_embed.proj.weight")
    with pytest.raises(ConversionError, match=r"(?s)missing patch_embed\.proj\.weight.*leftover head\.scale"):
        timm_eva.params_from_arrays(state, config)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {"pooling": "avg", "final_norm": "pooled", "rotary": None, "key_bias": False, "activation": "gelu", "layer_scale": False}),
        ({"global_pool": "token"}, {"final_norm": "tokens"}),
        ({"use_fc_norm": False, "use_post_transformer_norm": False}, {"final_norm": "none"}),
        ({"swiglu_mlp": True, "mlp_ratio": 2.5, "swiglu_align_to": 8}, {"gated_mlp": True, "activation": "silu", "mlp_width": 32}),
        ({"swiglu_mlp": True, "mlp_ratio": 2.5}, {"mlp_width": 30}),
        (ROPE | {"ref_feat_shape": 7}, {"rotary": Rotary(reference=(7, 7))}),
        (
            ROPE
            | {"rope_type": "dinov3", "rope_temperature": 100, "rope_rotate_half": True, "ref_feat_shape": 7, "rope_rescale_coords": 2},
            {"rotary": Rotary(temperature=100.0, coordinates="centred", pairs="halves")},
        ),
        (ROPE | {"rope_grid_indexing": "xy", "rope_grid_offset": 1.0}, {"rotary": Rotary(offset=1.0, order="xy")}),
        (ROPE | {"rope_type": "mixed", "rope_temperature": 10.0}, {"rotary": Rotary("learned", temperature=10.0)}),
        ({"global_pool": "map", "attn_pool_num_heads": 4, "attn_pool_mlp_ratio": 3.0}, {"pool_num_heads": 4, "pool_mlp_width": 36}),
        ({"init_values": 1.0, "attn_only_layer_scale": True}, {"layer_scale": True, "mlp_layer_scale": False}),
    ],
    ids=str,
)
def test_the_network(options, fields):
    config = timm_eva.config_from_options(TINY | options)
    assert {name: getattr(config, name) for name in fields} == fields


def test_keys_and_values_of_fewer_heads_serve_several_queries():
    config = timm_eva.config_from_options(TINY | OPTIONS["eva02"] | {"attn_type": "rope", "num_heads": 3})
    state = to_eva(random_params(config), config, fused=False)
    full = timm_eva.params_from_arrays(state, config)["blocks"]["attention"]
    for name in ("k", "v"):
        for leaf in ("weight", "bias"):
            state[f"blocks.1.attn.{name}_proj.{leaf}"] = state[f"blocks.1.attn.{name}_proj.{leaf}"][4:8]
    shared = timm_eva.params_from_arrays(state, config)["blocks"]["attention"]
    for name in ("key", "value"):
        np.testing.assert_array_equal(shared[name]["kernel"][0], full[name]["kernel"][0])
        np.testing.assert_array_equal(shared[name]["kernel"][1], np.tile(full[name]["kernel"][1][:, 4:8], 3))
    state["blocks.1.attn.k_proj.weight"] = np.zeros((7, 12))
    with pytest.raises(ConversionError, match=r"blocks\.1\.attn\.k_proj\.weight has shape \(7, 12\)"):
        timm_eva.params_from_arrays(state, config)


@pytest.mark.parametrize("family", ["eva", "beit"])
def test_unknown_options_are_listed_in_one_error(family):
    reader = {"eva": timm_eva, "beit": timm_beit}[family]
    with pytest.raises(ValueError, match=r"unknown option block_fn='Other'") as error:
        reader.config_from_options({"block_fn": "Other", "global_pool": "max", "in_chans": 4, "norm_layer": "BatchNorm"})
    for part in ("global_pool 'max'", "in_chans=4", "norm_layer 'BatchNorm'"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (ROPE | {"rope_type": "mrope"}, "rope_type 'mrope' is none of"),
        (ROPE | {"rope_grid_indexing": "yx"}, "rope_grid_indexing 'yx' is none of"),
        ({"attn_type": "diff"}, "attn_type 'diff' is none of"),
        ({"use_fc_norm": True, "use_post_transformer_norm": True}, "use_fc_norm and use_post_transformer_norm together"),
        ({"global_pool": "map", "swiglu_mlp": True}, "global_pool='map' with swiglu_mlp"),
    ],
    ids=str,
)
def test_what_is_not_supported(options, problem):
    with pytest.raises(ValueError, match=problem):
        timm_eva.config_from_options(TINY | options)
    with pytest.raises(ValueError, match="together are not supported"):
        timm_beit.config_from_options({"use_rel_pos_bias": True, "use_shared_rel_pos_bias": True})


def test_tables_of_beit_of_blocks_and_shared():
    options = TINY | {"use_rel_pos_bias": True, "use_abs_pos_emb": False, "init_values": 0.1}
    config = timm_beit.config_from_options(options)
    params = random_params(config)
    state = to_eva(params, config)
    assert_same(timm_beit.params_from_arrays(state | {"blocks.0.attn.relative_position_index": np.zeros((17, 17))}, config), params)
    own = [state.pop(f"blocks.{i}.attn.relative_position_bias_table") for i in range(2)]
    shared = timm_beit.params_from_arrays(state | {"rel_pos_bias.relative_position_bias_table": own[1]}, config)
    np.testing.assert_array_equal(shared["blocks"]["attention"]["relative_position"], np.stack([own[1]] * 2))
    wide = timm_beit.config_from_options(options | {"img_size": [8, 24]})
    state |= {f"blocks.{i}.attn.relative_position_bias_table": table for i, table in enumerate(own)}
    tables = timm_beit.params_from_arrays(state, wide, checkpoint_size=(16, 16))["blocks"]["attention"]["relative_position"]
    np.testing.assert_array_equal(tables[1], resample_relative(own[1], (2, 6), old_grid=(4, 4)))


@pytest.mark.parametrize("family", ["eva", "beit"])
def test_saved_and_resized(family, tmp_path):
    """The format of `save` holds the new options, and both ways to another size agree."""
    options = {"eva": OPTIONS["dinov3"] | {"use_abs_pos_emb": True}, "beit": {"use_rel_pos_bias": True}}[family]
    read = describe({"architecture": family, "model_args": TINY | options})
    assert read.family == "vit"
    model = Model(random_params(read.config), FAMILIES["vit"].network(read.config), preprocessing=Preprocessing(image_size=(16, 16)))
    store.save(model, tmp_path)
    again = hub.load(tmp_path)
    assert again.forward == model.forward
    assert_same(again.params, model.params)
    large, resized = hub.load(tmp_path, image_size=(8, 24)), resize.at_image_size(model, (8, 24))
    assert large.forward == resized.forward and large.forward.config.grid == (2, 6)
    assert_same(large.params, resized.params)
    if family == "beit":
        assert large.params["blocks"]["attention"]["relative_position"].shape == (2, num_entries((2, 6)), 2)


def test_every_architecture_of_timm_is_known():
    """All 83 pretrained tags of eva.py and the 13 of beit.py that this timm has."""
    known = set(hub.known_models())
    for family, count in (("eva", 83), ("beit", 13)):
        tags = {f"{name}.{tag}" for name, entry in architectures().items() if entry["family"] == family for tag in entry["tags"]}
        assert len(tags) == count and tags <= known
