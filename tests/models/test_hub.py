"""`load`: folders, files, another image size. test_hub_files.py has what is wrong with them, test_hub_names.py names."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from timm_checkpoints import TINY, assert_same, random_params, shard, to_timm, write_checkpoint

from convert_weights.timm import config_from_options
from dave_jax.config import DaveConfig
from dave_jax.models import hub, store
from dave_jax.models.positions import resample_positions


def test_a_folder_in_timms_layout(tmp_path):
    params = write_checkpoint(tmp_path / "mine", label_names=["a", "b", "c"], pretrained_cfg={"mean": [0, 0, 0], "std": [1, 1, 1]})
    model = hub.load(tmp_path / "mine")
    assert_same(model.params, params)
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(model.params))
    assert (model.name, model.class_names, model.config) == ("mine", ("a", "b", "c"), DaveConfig())
    assert (model.preprocessing.std, model.preprocessing.image_size) == ((1.0, 1.0, 1.0), (16, 16))
    digest = hashlib.sha256((tmp_path / "mine" / "model.safetensors").read_bytes()).hexdigest()
    assert model.source == f"{tmp_path / 'mine'} sha256:{digest[:16]}"


def test_a_path_may_be_relative_or_begin_with_a_tilde(tmp_path, monkeypatch):
    params = write_checkpoint(tmp_path / "org" / "repo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("org/repo", "./org/repo", "~/org/repo", Path("org/repo"), "org/repo/model.safetensors"):
        model = hub.load(name)
        assert_same(model.params, params)
        assert model.name == "repo"


def test_a_file_with_its_config_beside_it(tmp_path):
    params = write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "epoch3.safetensors")
    model = hub.load(tmp_path / "epoch3.safetensors")
    assert_same(model.params, params)
    assert model.name == "epoch3"


def test_a_checkpoint_in_shards(tmp_path):
    params = write_checkpoint(tmp_path)
    shard(tmp_path)
    model = hub.load(tmp_path)
    assert_same(model.params, params)
    (tmp_path / "part-2.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"part-2\.safetensors"):
        hub.load(tmp_path)
    for text in ("{", "{}", '{"weight_map": 3}', '{"weight_map": {"a": "../part-1.safetensors"}}', '{"weight_map": {"a": "part-1.bin"}}'):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
            hub.load(tmp_path)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_precisions_become_float32_without_torch(dtype, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails
    params = write_checkpoint(tmp_path, dtype=dtype)
    assert_same(hub.load(tmp_path).params, jax.tree.map(lambda leaf: leaf.astype(dtype).astype(np.float32), params))


def test_a_model_in_our_own_format(tmp_path):
    write_checkpoint(tmp_path / "timm")
    model = hub.load(tmp_path / "timm")
    store.save(model, tmp_path / "ours")
    for place in (tmp_path / "ours", tmp_path / "ours" / "model.safetensors"):
        read = hub.load(place)
        assert_same(read.params, model.params)
        assert read.name == "timm" and read.source.startswith(f"{place} sha256:") and read.source.endswith(f", from {model.source}")
    assert hub.load(tmp_path / "ours", image_size=24).preprocessing.image_size == (24, 24)


def test_without_a_name_the_embedded_model(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "timm")
    model = hub.load(tmp_path / "timm")
    store.save(model, tmp_path / "default", quantise=True)
    monkeypatch.setattr(hub, "EMBEDDED", tmp_path / "default")
    embedded = hub.load(image_size=32)
    assert embedded.source.startswith("dave_jax/assets/default sha256:") and embedded.preprocessing.image_size == (32, 32)
    with pytest.raises(ValueError, match="Leave revision out"):
        hub.load(revision="main")


@pytest.mark.parametrize("size", [24, (24, 24), hub._size([24, 24]), hub._size(np.int64(24))])
def test_another_image_size(size, tmp_path):
    params = write_checkpoint(tmp_path)
    model = hub.load(tmp_path, image_size=size)
    assert model.forward.config.image_size == model.preprocessing.image_size == (24, 24)
    np.testing.assert_array_equal(
        model.params["position_embedding"], resample_positions(params["position_embedding"], (6, 6), num_prefix=1)
    )


def test_an_image_size_of_as_many_patches_in_another_shape(tmp_path):
    params = write_checkpoint(tmp_path)
    position = hub.load(tmp_path, image_size=(8, 32)).params["position_embedding"]
    np.testing.assert_array_equal(position, resample_positions(params["position_embedding"], (2, 8), num_prefix=1, old_grid=(4, 4)))
    assert np.abs(position - params["position_embedding"]).max() > 0.1


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (30, ValueError, r"got \(30, 30\).*nearest are \(28, 28\) and \(32, 32\)"),
        ((2, 17), ValueError, r"nearest are \(4, 16\) and \(8, 20\)"),
        (0, ValueError, "must be positive"),
        ((16, -4), ValueError, "must be positive"),
    ],
)
def test_image_sizes_that_cannot_be(size, error, message, tmp_path):
    write_checkpoint(tmp_path)
    with pytest.raises(error, match=message):
        hub.load(tmp_path, image_size=size)


@pytest.mark.parametrize("size", [24.0, "24", (24,), (24, 24, 3), (24.5, 24)])
def test_image_sizes_of_the_wrong_kind(size):
    with pytest.raises(TypeError):  # beartype's or ours
        hub.load("vit_small_patch16_224", image_size=size)
    with pytest.raises(TypeError, match=r"an integer or a pair \(height, width\)"):
        hub._size(size)


# Real weights, beside the project


@pytest.mark.parametrize("name", ["vit", "deit3", "avgpool", "registers", "qknorm"])
def test_recorded_networks_give_the_recorded_logits(name, shared, tmp_path):
    options = json.loads((shared / "goldens" / "configs.json").read_text())[name]
    shutil.copy(shared / "goldens" / f"{name}.safetensors", tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vision_transformer", "model_args": options}))
    recorded = np.load(shared / "goldens" / f"{name}.npz")
    logits = hub.load(tmp_path).logits(jnp.asarray(recorded["x"].transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(logits, recorded["logits"], atol=1e-5)


def test_a_real_network(shared):
    model = hub.load(shared / "models" / "vit_s14_photos98")
    config = model.forward.config
    assert (config.width, config.depth, config.layer_scale, config.grid, config.num_classes) == (384, 12, True, (16, 16), 98)
    assert model.class_names is not None and len(model.class_names) == 98 and model.class_index("golf ball") == 40
    assert (model.preprocessing.crop_fraction, model.preprocessing.mean) == (0.875, (0.485, 0.456, 0.406))
    assert model.name == "vit_s14_photos98" and jax.tree.leaves(model.params)[0].dtype == jnp.float32


def test_the_helper_and_the_converter_agree_on_a_default_network():
    config = config_from_options(TINY)
    assert len(to_timm(random_params(config), config)) == 8 + 12 * config.depth
