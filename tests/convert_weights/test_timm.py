"""timm's options and state dicts, against state dicts that are laid out by hand."""

import numpy as np
import pytest
from timm_checkpoints import TINY, assert_same, random_params, to_timm

from convert_weights.config_json import describe
from convert_weights.table import ConversionError
from convert_weights.timm import config_from_options, params_from_arrays
from dave_jax.models.positions import resample_positions

OPTIONS = {
    "plain": {},
    "avg": {"global_pool": "avg", "class_token": False},
    "avg_norm_first": {"global_pool": "avg", "fc_norm": False, "pool_include_prefix": True},
    "map": {"global_pool": "map", "class_token": False, "act_layer": "gelu_tanh"},
    "deit3": {"no_embed_class": True, "init_values": 1e-6, "norm_layer": "LayerNorm(eps=1e-06)"},
    "registers": {"reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5, "final_norm": False},
    "distilled": {"distilled": True},
    "clip": {"pre_norm": True, "norm_layer": "LayerNorm(eps=1e-05)", "act_layer": "quick_gelu"},
    "no_bias": {"qkv_bias": False, "proj_bias": False, "qk_norm": True},
    "scaled_norms": {"scale_attn_norm": True, "scale_mlp_norm": True},
    "rms_swiglu": {
        "norm_layer": "RmsNorm(eps=1e-05)",
        "embed_norm_layer": "RmsNorm(eps=1e-05)",
        "mlp_layer": "SwiGLU",
        "act_layer": "silu",
    },
    "packed": {"mlp_layer": "GluMlp(act_layer=SiLU,gate_last=False)", "act_layer": "SiLU", "mlp_ratio": 4},
    "features": {"num_classes": 0},
    "wide_patches": {"img_size": [8, 24], "patch_size": [2, 8]},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_state_dict_becomes_the_parameters_it_was_made_of(name):
    config = config_from_options(TINY | OPTIONS[name])
    params = random_params(config)
    state = to_timm(params, config, packed_gate=name == "packed")
    assert_same(params_from_arrays(state, config), params)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_renamed_key_is_missing_and_left_over(name):
    config = config_from_options(TINY | OPTIONS[name])
    state = to_timm(random_params(config), config, packed_gate=name == "packed")
    state["blocks.1.attention.proj.weight"] = state.pop("blocks.1.attn.proj.weight")
    with pytest.raises(ConversionError, match=r"(?s)missing blocks\.1\.attn\.proj\.weight.*leftover blocks\.1\.attention\.proj\.weight"):
        params_from_arrays(state, config)


def test_options_in_a_config():
    config = config_from_options(
        TINY | {"img_size": [32, 16], "init_values": 1e-5, "norm_layer": "LayerNorm(eps=1e-05)", "act_layer": "quick_gelu", "reg_tokens": 2}
    )
    assert (config.image_size, config.grid, config.mlp_width, config.num_prefix) == ((32, 16), (8, 4), 24, 3)
    assert (config.layer_scale, config.eps, config.activation) == (True, 1e-5, "quick_gelu")
    assert config_from_options({}) == config_from_options({"drop_rate": 0.1, "weight_init": "skip", "init_values": None})


def test_unknown_options_are_listed_in_one_error():
    with pytest.raises(ValueError, match=r"(?s)block_fn 'ParallelScalingBlock'.*attn_layer='diff'|attn_layer.*block_fn") as error:
        config_from_options(
            {"block_fn": "ParallelScalingBlock", "attn_layer": "diff", "rope": True, "act_layer": "mish", "global_pool": "max"}
        )
    for part in ("unknown option rope=True", "act_layer 'mish'", "global_pool 'max'"):
        assert part in str(error.value)


def test_keys_of_masked_pretraining_and_shared_pools_are_left_out():
    config = config_from_options(TINY)
    params = random_params(config)
    state = to_timm(params, config) | {"mask_token": np.zeros((1, 12)), "attn_pool.latent": np.zeros((1, 1, 12))}
    assert_same(params_from_arrays(state, config, not_needed=["attn_pool."]), params)
    with pytest.raises(ConversionError, match=r"leftover attn_pool\.latent"):
        params_from_arrays(state, config)


@pytest.mark.parametrize("no_embed_class", [False, True])
def test_a_position_embedding_is_resampled_to_the_config(no_embed_class):
    options = TINY | {"no_embed_class": no_embed_class, "reg_tokens": 2}
    small = config_from_options(options)
    params = random_params(small)
    state = to_timm(params, small)
    large = params_from_arrays(state, config_from_options(options | {"img_size": [24, 32]}))
    expected = resample_positions(params["position_embedding"], (6, 8), num_prefix=0 if no_embed_class else 3)
    np.testing.assert_array_equal(large["position_embedding"], expected)
    assert_same({**large, "position_embedding": 0}, {**params, "position_embedding": 0})


def test_a_grid_of_as_many_patches_is_another_grid():
    config = config_from_options(TINY | {"img_size": [8, 32]})
    state = to_timm(random_params(config_from_options(TINY)), config_from_options(TINY))
    as_it_is = params_from_arrays(state, config)["position_embedding"]
    resampled = params_from_arrays(state, config, checkpoint_size=(16, 16))["position_embedding"]
    np.testing.assert_array_equal(as_it_is, state["pos_embed"][0])
    np.testing.assert_array_equal(resampled, resample_positions(state["pos_embed"][0], (2, 8), num_prefix=1, old_grid=(4, 4)))
    assert np.abs(resampled - as_it_is).max() > 0.1


def test_config_json_of_a_known_architecture():
    read = describe({"architecture": "vit_base_patch16_224", "num_classes": 7, "pretrained_cfg": {"tag": "augreg_in21k", "crop_pct": 1}})
    assert (read.architecture, read.config.num_classes, read.config.width) == ("vit_base_patch16_224", 7, 768)
    assert (read.preprocessing.mean, read.preprocessing.crop_fraction) == ((0.5, 0.5, 0.5), 1.0)
    assert describe({"architecture": "vit_base_patch16_224.mae"}).config.num_classes == 1000


def test_config_json_of_older_timm_is_flat():
    flat = {"architecture": "vit_tiny_patch16_224", "num_classes": 2, "input_size": [3, 64, 32], "mean": [0, 0, 0], "std": [1, 1, 1]}
    read = describe(
        flat | {"crop_pct": 0.95, "crop_mode": "squash", "interpolation": "bilinear", "labels": ["cat", "dog"], "first_conv": None}
    )
    assert read.config.image_size == read.preprocessing.image_size == read.checkpoint_size == (64, 32)
    assert (read.preprocessing.std, read.preprocessing.crop_fraction) == ((1.0, 1.0, 1.0), 0.95)
    assert (read.preprocessing.crop_mode, read.preprocessing.interpolation) == ("squash", "bilinear")
    assert read.class_names == ("cat", "dog")


def test_config_json_without_images_has_timms_defaults():
    preprocessing = describe({"architecture": "vision_transformer", "model_args": TINY}).preprocessing
    assert (preprocessing.mean, preprocessing.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (preprocessing.crop_fraction, preprocessing.image_size) == (0.875, (16, 16))


def test_what_rules_over_what_in_config_json():
    document = {
        "architecture": "deit3_small_patch16_224",
        "num_classes": 4,
        "global_pool": "avg",
        "model_args": {"num_classes": 5, "img_size": 64, "init_values": None, "fc_norm": False},
        "pretrained_cfg": {"num_classes": 6, "input_size": [3, 96, 96]},
    }
    config = describe(document).config
    assert (config.num_classes, config.image_size, config.layer_scale) == (4, (64, 64), False)
    assert (config.pooling, config.final_norm) == ("avg", "tokens")
    del document["num_classes"], document["model_args"]
    config = describe(document, image_size=(32, 48)).config
    assert (config.num_classes, config.image_size, config.layer_scale, config.final_norm) == (6, (32, 48), True, "pooled")


def test_the_name_may_say_another_architecture_than_the_file():
    read = describe({"architecture": "vit_base_patch16_clip_224"}, architecture="vit_base_patch16_clip_quickgelu_224", tag="openai")
    assert (read.config.activation, read.config.num_classes) == ("quick_gelu", 512)


def test_gap_networks_of_siglip_share_checkpoints():
    assert describe({"architecture": "vit_base_patch16_siglip_gap_224"}).not_needed == ("attn_pool.",)
    assert describe({"architecture": "vit_base_patch16_siglip_224"}).not_needed == ()
    assert describe({"architecture": "vit_base_patch16_224"}).not_needed == ()


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"label_names": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"label_names": ["n1", "n2", "n3"], "label_descriptions": {"n1": "tench", "n3": "church"}}, ("tench", "n2", "church")),
        ({"label_names": {"0": "a", "1": "b", "2": "c"}}, ("a", "b", "c")),
        ({"label_names": {"0": "a", "1": "b", "7": "c"}}, None),
        ({"label_names": ["a", "b"]}, None),
        ({"pretrained_cfg": {"label_names": ["a", "b", "c"]}}, ("a", "b", "c")),
        ({}, None),
    ],
)
def test_class_names_count_when_there_is_one_for_each_class(labels, names):
    assert describe({"architecture": "vision_transformer", "model_args": TINY} | labels).class_names == names


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "must name a timm architecture"),
        ({"architecture": "vit_smal_patch16_224"}, "Near names: vit_small_patch16_224"),
        ({"architecture": "efficientnet_b0"}, "another kind of network"),
        ({"architecture": "vit_dwee_patch16_reg1_gap_256"}, "attn_layer='diff'"),
        ({"architecture": "vit_base_patch16_224", "model_args": {"rope": 1}}, "unknown option rope=1"),
        ({"architecture": "vit_base_patch16_224", "model_args": {"in_chans": 1}}, "in_chans=1"),
        ({"architecture": "vit_base_patch16_224", "model_args": [1]}, "laid out as timm writes it"),
        ({"architecture": "vit_base_patch16_224", "pretrained_cfg": {"mean": [0.5]}}, "how photographs become images"),
        ({"architecture": "vit_base_patch16_224", "pretrained_cfg": {"crop_mode": "middle"}}, "how photographs become images"),
        ({"architecture": "vit_base_patch16_224", "pretrained_cfg": {"input_size": 224}}, "laid out as timm writes it"),
        ({"architecture": "vit_base_patch16_224", "pretrained_cfg": "none"}, "laid out as timm writes it"),
    ],
)
def test_malformed_config_json(document, message):
    with pytest.raises(ValueError, match=message):
        describe(document)


def test_networks_that_timm_resamples_otherwise_keep_their_size():
    assert describe({"architecture": "flexivit_small"}, image_size=(240, 240)).config.grid == (15, 15)
    with pytest.raises(ValueError, match=r"bilinear.*image_size=\(240, 240\)"):
        describe({"architecture": "flexivit_small"}, image_size=(256, 256))


def test_pixels_that_patches_leave_over():
    read = describe({"architecture": "vit_so400m_patch14_siglip_384"})
    assert (read.config.grid, read.config.overhang, read.preprocessing.image_size) == ((27, 27), True, (384, 384))
    smaller = describe({"architecture": "vit_so400m_patch14_siglip_384"}, image_size=(378, 378)).config
    assert (smaller.grid, smaller.overhang) == ((27, 27), False)
    with pytest.raises(ValueError, match=r"nearest are \(378, 378\) and \(392, 392\)"):
        describe({"architecture": "vit_so400m_patch14_siglip_384"}, image_size=(380, 380))
