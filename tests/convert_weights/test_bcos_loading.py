"""The ViTs of the B-cos repository: state dicts that are laid out by hand, `config.json`, and what is wrong with them."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from timm_checkpoints import assert_same

from convert_weights import bcos
from convert_weights.table import ConversionError, flatten
from dave_jax.models import bcos_config, hub, vit_config
from dave_jax.models.bcos_config import BcosViTConfig, constants
from dave_jax.models.positions import sine_cosine_positions
from dave_jax.models.vit_config import ViTConfig

SIZES = {"width": 8, "depth": 2, "num_heads": 2, "mlp_width": 12}
TINY = {
    "bcos_tiny_simple": BcosViTConfig(patch_size=(4, 4), **SIZES),
    "bcos_tiny_stem": BcosViTConfig(patch_size=(1, 1), stem_widths=(8, 12), **SIZES),
    "standard_tiny": ViTConfig(patch_size=(4, 4), class_token=False, pooling="avg", final_norm="pooled", eps=1e-5, qkv_bias=False, **SIZES),
}


def to_theirs(params, prefix: str, inner: str) -> dict[str, np.ndarray]:
    """The state dict that has these parameters: the converter's twin, the other way round."""
    state = {}

    def put(name, part, middle=inner):
        for leaf, value in part.items():
            axes = (1, 0) if value.ndim == 2 else (3, 2, 0, 1)
            kernel = leaf == "kernel"
            theirs = f"{prefix}{name}{middle if kernel or inner == '' else ''}.{'bias' if leaf == 'bias' else 'weight'}"
            state[theirs] = value.transpose(axes) if kernel else value

    for i in range(len(params.get("stem", {})) // 2):
        put(f"to_patch_embedding.conv_stem.{3 * i}", params["stem"][f"conv{i + 1}"])
        put(f"to_patch_embedding.conv_stem.{3 * i + 1}", params["stem"][f"norm{i + 1}"])
    put("to_patch_embedding.linear", params["patch_embedding"])
    for i in range(2):
        block, at = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"]), f"transformer.encoder_{i}"
        put(f"{at}.attn.norm", block["attention_norm"])
        fused = np.concatenate([block["attention"][name]["kernel"] for name in ("query", "key", "value")], axis=1)
        put(f"{at}.attn.to_qkv", {"kernel": fused}, "")
        put(f"{at}.attn.to_out", {"kernel": block["attention"]["proj"]["kernel"]})
        put(f"{at}.ff.net.norm", block["mlp_norm"])
        put(f"{at}.ff.net.linear1", block["mlp"]["fc1"])
        put(f"{at}.ff.net.linear2", block["mlp"]["fc2"])
    put("linear_head.norm", params["final_norm"])
    put("linear_head.linear", params["head"])
    return {name: np.ascontiguousarray(value) for name, value in state.items()}


def write(folder, name: str, **more):
    """A folder of a tiny network; its random parameters, with the constants that belong to them."""
    read = bcos.describe({"architecture": name, "num_classes": 3, **more}, image_size=(8, 12))
    init = bcos_config.init_params if isinstance(read.config, BcosViTConfig) else vit_config.init_params
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: init(key, read.config), jax.random.key(0))
    params = jax.tree.map(lambda leaf: draw.standard_normal(leaf.shape).astype(np.float32), shapes)
    if isinstance(read.config, BcosViTConfig):
        params |= jax.device_get(constants(read.config, read.logit_bias))
        state = to_theirs(params, "0.", ".linear")
    else:
        params["position_embedding"] = sine_cosine_positions(read.config.grid, 8)
        params["blocks"]["attention"]["proj"]["bias"] *= 0
        state = to_theirs(params, "", "")
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": name, "num_classes": 3, **more}))
    return params


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for name, config in TINY.items():
        monkeypatch.setitem(bcos.ARCHITECTURES, name, config)


@pytest.mark.parametrize("name", TINY)
def test_a_folder(name, tmp_path):
    more = {"logit_bias": -2, "logit_temperature": 4} if name == "bcos_tiny_stem" else {}
    params = write(tmp_path / "mine", name, label_names=["cat", "dog", "owl"], **more)
    model = hub.load(tmp_path / "mine", image_size=(8, 12))
    assert_same(model.params, params)
    assert (model.name, model.class_names, model.preprocessing.image_size) == ("mine", ("cat", "dog", "owl"), (8, 12))
    assert (model.preprocessing.interpolation, model.preprocessing.resized(300, 300)) == ("bilinear", (13, 13))
    if name.startswith("bcos"):
        assert (model.preprocessing.mean, model.preprocessing.std) == ((0.0,) * 3, (1.0,) * 3)
        assert model.forward.config.temperature == more.get("logit_temperature", 1.0)
        assert float(model.params["logits"]["bias"]) == pytest.approx(more.get("logit_bias", -np.log(2)), rel=1e-6)
    else:
        assert model.preprocessing.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("name", ["bcos_tiny_stem", "standard_tiny"])
def test_every_array_is_accounted_for(name, tmp_path):
    write(tmp_path, name)
    state = load_file(tmp_path / "model.safetensors")
    head = next(key for key in state if "linear_head.linear" in key and key.endswith("weight"))
    state["extra"], state[head] = np.ones(3, np.float32), np.ones((4, 8), np.float32)
    lost = next(key for key in state if "encoder_1.attn.to_qkv" in key)
    del state[lost]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ConversionError) as error:
        hub.load(tmp_path, image_size=(8, 12))
    for problem in (f"missing {lost}", "leftover extra (3,)", f"{head} has shape (4, 8)"):
        assert problem in str(error.value)


def test_the_architectures():
    assert len(bcos.ARCHITECTURES) - len(TINY) == 16
    for name, depth, width in (("bcos_vitc_l_patch1_14", 13, 1024), ("bcos_simple_vit_l_patch16_224", 14, 1024)):
        assert (bcos.ARCHITECTURES[name].depth, bcos.ARCHITECTURES[name].width) == (depth, width)
    sizes = {"bcos_simple_vit_ti_patch16_224": 5.80, "bcos_vitc_l_patch1_14": 167.44, "standard_simple_vit_l_patch16_224": 178.10}
    for name, millions in sizes.items():  # as the repository counts them
        config = bcos.ARCHITECTURES[name]
        init = bcos_config.init_params if isinstance(config, BcosViTConfig) else vit_config.init_params
        shapes = flatten(jax.eval_shape(lambda key, init=init, config=config: init(key, config), jax.random.key(0)))
        fixed = ("channels/bias", "logits/bias", "position_embedding", "blocks/attention/proj/bias")
        assert sum(leaf.size for path, leaf in shapes.items() if path not in fixed) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"architecture": "bcos_simple_vit_x_patch16_224"}, "Near names: bcos_simple_vit_"),
        ({"architecture": "simple_vit_s_patch16_224"}, "names 'simple_vit_s_patch16_224'. Near names: "),
        ({"architecture": "vitc_s_patch1_14"}, "names 'vitc_s_patch1_14'. Near names: "),
        ({"num_classes": 0}, "num_classes must be a whole number, 1 to 1000000; got 0"),
        ({"num_classes": 3, "label_names": ["a"]}, "label_names must be a list of one name for each class"),
        ({"logit_bias": "0"}, "logit_bias must be a number; got '0'"),
        ({"logit_temperature": -1}, "logit_temperature must be a positive number; got -1"),
        ({"b": 1.5}, "unknown option b=1.5"),
        ({"architecture": "standard_tiny", "logit_bias": 0}, "are those of B-cos networks"),
    ],
)
def test_malformed_descriptions(document, message):
    with pytest.raises(ValueError, match=message):
        bcos.describe({"architecture": "bcos_vitc_s_patch1_14"} | document)


def test_image_sizes():
    with pytest.raises(ValueError, match=r"multiple of the patch size \(16, 16\); got \(100, 224\)"):
        bcos.describe({"architecture": "bcos_simple_vit_s_patch16_224"}, image_size=(100, 224))
    read = bcos.describe({"architecture": "bcos_vitc_s_patch1_14"}, image_size=(100, 224))
    assert read.preprocessing.image_size == (100, 224)


def test_a_name_alone_and_a_pickle(tmp_path):
    with pytest.raises(ValueError, match=r"'bcos_vitc_s_patch1_14' are not on the hub, only in a pickle elsewhere.*docs/bcos\.md"):
        hub.load("bcos_vitc_s_patch1_14")
    (tmp_path / "bcos_vitc_s_patch1_14-cf55c88f0c.pth").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"never unpickles.*\n.*torch\.load.*\n.*save_file"):
        hub.load(tmp_path)
