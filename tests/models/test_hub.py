"""`load`: folders, files and names; test_hub_download.py has the hub."""

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
from safetensors.numpy import load_file, save_file
from timm_checkpoints import TINY, assert_same, random_params, shard, to_timm, write_checkpoint

from convert_weights.table import ConversionError
from convert_weights.timm import config_from_options
from dave_jax.config import DaveConfig
from dave_jax.models import hub, store
from dave_jax.models.positions import resample_positions
from dave_jax.models.presets import preset

COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40


# Folders and files


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


# Files that are not as they should be


def test_missing_files(tmp_path):
    for name in (tmp_path / "none", "./none", "none.safetensors", "some/weights.pth", "~/no/such/folder"):
        with pytest.raises(FileNotFoundError, match="There is no file or folder"):
            hub.load(name)
    with pytest.raises(FileNotFoundError, match=r"must hold model\.safetensors; it does not\. Files there: not known"):
        hub.load(tmp_path)
    (tmp_path / "readme.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"Files there: \['readme\.txt'\]"):
        hub.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"must hold model\.safetensors"):
        hub.load(tmp_path / "readme.txt")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "deit.pt"])
def test_a_pickle_is_never_opened(name, tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(ValueError, match="never unpickles") as error:
            hub.load(place)
        assert repr(name) in str(error.value) and "save_file" in str(error.value)


def test_a_folder_does_not_say_that_an_archive_is_its_model(tmp_path):
    (tmp_path / "vit.npz").touch()
    with pytest.raises(ValueError, match=r"holds 'vit\.npz' and no safetensors.*load the file itself"):
        hub.load(tmp_path)


def test_a_file_alone_lacks_its_config(tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r'needs a config\.json beside its weights.*"architecture"'):
        hub.load(tmp_path / "model.safetensors")


def test_config_json_that_is_no_json_object(tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json' must be JSON"):
        hub.load(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"config\.json' must be a JSON object; it is a list"):
        hub.load(tmp_path)


HEADER_LONGER_THAN_THE_FILE = (10**9).to_bytes(8, "little") + b"{}"


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", HEADER_LONGER_THAN_THE_FILE, None]
)
def test_truncated_weights(content, tmp_path):
    write_checkpoint(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5] if content is None else content)
    with pytest.raises(ValueError, match=r"must be a whole safetensors file; .*cut off"):
        hub.load(tmp_path)


def test_arrays_of_another_type(tmp_path):
    write_checkpoint(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    save_file(arrays | {"norm.weight": np.ones(arrays["norm.weight"].shape, np.int64)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"norm\.weight holds int64, not floating-point"):
        hub.load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_link_out_of_the_folder(name, tmp_path):
    write_checkpoint(tmp_path / "secret")
    write_checkpoint(tmp_path / "downloaded")
    (tmp_path / "downloaded" / name).unlink()
    (tmp_path / "downloaded" / name).symlink_to(tmp_path / "secret" / name)
    with pytest.raises(ValueError, match="a link out of its folder"):
        hub.load(tmp_path / "downloaded")
    (tmp_path / "downloaded" / name).unlink()
    (tmp_path / "downloaded" / f"other.{name}").write_bytes((tmp_path / "secret" / name).read_bytes())
    (tmp_path / "downloaded" / name).symlink_to(f"other.{name}")  # within the folder
    hub.load(tmp_path / "downloaded")


def test_a_folder_of_the_hubs_cache(tmp_path):
    write_checkpoint(tmp_path / "blobs")
    snapshot = tmp_path / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    hub.load(snapshot)


def test_renamed_keys(tmp_path):
    write_checkpoint(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    save_file({key.replace("blocks.", "layers."): array for key, array in arrays.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ConversionError, match=r"(?s)missing blocks\.0\.norm1\.weight.*leftover layers\.1\.norm2\.weight") as error:
        hub.load(tmp_path)
    assert repr(str(tmp_path)) in str(error.value)


def test_a_head_of_another_size_than_the_config_says(tmp_path):
    write_checkpoint(tmp_path, num_classes=5)
    with pytest.raises(ConversionError, match=r"head\.weight has shape \(3, 12\).*head/kernel needs \(12, 5\)"):
        hub.load(tmp_path)


def test_a_revision_of_a_folder(tmp_path):
    with pytest.raises(ValueError, match="Leave revision out"):
        hub.load(tmp_path, revision="main")


# Names


def test_known_models():
    every = hub.known_models()
    assert len(every) == len(set(every)) == 619  # 623 that dave_jax builds, without four that are not on the hub
    assert "deit3_base_patch16_224.fb_in1k" in every and "vit_huge_patch14_gap_224.in1k_ijepa" not in every
    assert hub.known_models("deit3_small*in1k") == [name for name in every if name.startswith("deit3_small") and name.endswith("in1k")]
    assert hub.known_models("dinov2") == [name for name in every if "dinov2" in name]
    assert hub.known_models("no such") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_smal_patch16_224", "Near names: vit_small_patch16_224"),
        ("deit3_bas_patch16_224.fb_in1k", "Near names: deit3_base_patch16_224"),
        ("deit3_base_patch16_224.fb_in2k", r"Near names: deit3_base_patch16_224\.fb_in1k"),
        ("mobilenet", "No known name is near it"),
        ("", "is no model of timm"),
        ("vit_giant_patch14_224", "no pretrained weights"),
        ("vit_huge_patch14_gap_224.in1k_ijepa", "only in a pickle elsewhere"),
        ("a/b/c", "is neither a folder or file that exists nor a hub repository"),
        ("org/re po", "is neither a folder or file that exists nor a hub repository"),
        ("org/", "is neither a folder or file that exists nor a hub repository"),
    ],
)
def test_names_that_mean_nothing(name, message):
    with pytest.raises(ValueError, match=message):
        hub.load(name)


def test_two_revisions_at_once():
    with pytest.raises(ValueError, match="name two revisions"):
        hub.load("org/repo@v1", revision="v2")


def test_presets_are_the_authors():
    levels = {"deit3_base": 0.9, "deit3_small": 0.5, "deit_base": 0.7, "deit_small": 0.5, "vit_base": 0.3, "vit_small": 0.1}
    for name, level in levels.items():
        assert preset(f"{name}_patch16_224") == DaveConfig(noise_alpha=level)
    assert preset("vit_base_patch16_384") is None


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
