"""transformers' ConvNeXt, V1 and V2: files that are laid out by hand."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from timm_checkpoints import assert_same

from convert_weights.huggingface_convnext import describe
from convert_weights.table import ConversionError
from dave_jax.models import hub
from dave_jax.models.convnext import ConvNeXt
from dave_jax.models.convnext_config import init_params

DOCUMENTS = {
    "v1": {"model_type": "convnext", "architectures": ["ConvNextForImageClassification"], "num_stages": 2},
    "v2": {"model_type": "convnextv2", "architectures": ["ConvNextV2Model"], "layer_norm_eps": 0.1},
}
SMALL = {"depths": [1, 2], "hidden_sizes": [4, 6], "patch_size": 2, "id2label": {"0": "cat", "1": "dog"}}
PROCESSOR = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.5}


def write(version, folder, *, drop=None):
    """A small random checkpoint; returns its parameters."""
    document = SMALL | DOCUMENTS[version]
    read = describe(document, PROCESSOR)
    draw, config = np.random.default_rng(0), read.config
    shapes = jax.eval_shape(lambda key: init_params(key, config), jax.random.key(0))
    params = jax.tree.map(lambda leaf: draw.standard_normal(leaf.shape, np.float32), shapes)
    prefix, state = "convnext." if version == "v1" else "", {}

    def put(key, part):
        for leaf, value in part.items():
            state[f"{key}.{'bias' if leaf == 'bias' else 'weight'}"] = np.moveaxis(value, (-1, -2), (0, 1)) if leaf == "kernel" else value

    put(f"{prefix}embeddings.patch_embeddings", params["stem"]["conv1"])
    put(f"{prefix}embeddings.layernorm", params["stem"]["norm"])
    for s, stage in params["stages"].items():
        at = f"{prefix}encoder.stages.{s}"
        for place, name in enumerate(("norm", "conv")):
            put(f"{at}.downsampling_layer.{place}", stage.get("downsample", {}).get(name, {}))
        for i in range(config.depths[int(s)]):
            block = jax.tree.map(lambda leaf, i=i: leaf[i], stage["blocks"])
            for theirs, ours in {"dwconv": "conv", "layernorm": "norm", "pwconv1": "fc1", "pwconv2": "fc2"}.items():
                put(f"{at}.layers.{i}.{theirs}", block[ours])
            if version == "v1":
                state[f"{at}.layers.{i}.layer_scale_parameter"] = block["layer_scale"]["scale"]
            else:
                put(f"{at}.layers.{i}.grn", {leaf: value[None, None, None] for leaf, value in block["response_norm"].items()})
    put(f"{prefix}layernorm", params["final_norm"])
    put("classifier", params.get("head", {}))
    state.pop(drop, None)
    save_file({key: np.ascontiguousarray(value) for key, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return params, config


@pytest.mark.parametrize("version", DOCUMENTS)
def test_a_folder_in_transformers_layout(version, tmp_path):
    params, config = write(version, tmp_path)
    model = hub.load(tmp_path)
    assert_same(model.params, params)
    assert model.forward == ConvNeXt(config) and config.final_eps == (1e-12 if version == "v1" else 0.1)
    assert (config.layer_scale, config.response_norm) == (version == "v1", version == "v2")
    assert model.class_names == (("cat", "dog") if version == "v1" else None)
    assert model.preprocessing.image_size == (32, 32) and model.preprocessing.resized(100, 100) == (64, 64)
    assert hub.load(tmp_path, image_size=(40, 48)).preprocessing.image_size == (40, 48)


def test_a_missing_key(tmp_path):
    write("v1", tmp_path, drop="convnext.encoder.stages.1.layers.1.pwconv2.bias")
    with pytest.raises(ConversionError, match=r"missing convnext\.encoder\.stages\.1\.layers\.1\.pwconv2\.bias"):
        hub.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architectures": ["ConvNextBackbone"]}, r"one of \['ConvNextModel', 'ConvNextForImageClassification'\]"),
        ({"hidden_act": "mish", "num_channels": 4}, "hidden_act 'mish' is none of.*num_channels must be 3; got 4"),
        ({"num_stages": 3}, "num_stages must be the number of depths; got 3 for 2"),
        ({"patch_size": "4"}, "must be laid out as transformers writes it.*patch_size must be a whole number"),
        ({"layer_norm_eps": 0.0}, "final_eps must be positive"),
    ],
)
def test_what_is_not_supported_is_named(options, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        describe(SMALL | DOCUMENTS["v1"] | options, PROCESSOR)


@pytest.mark.parametrize("changes", [{"size": {"height": 32, "width": 32}}, {"do_center_crop": True, "crop_size": 24}])
def test_a_processor_of_another_shape(changes):
    with pytest.raises(ValueError, match="ConvNext's processor has a shortest_edge and no crop of its own"):
        describe(SMALL | DOCUMENTS["v1"], PROCESSOR | changes)
