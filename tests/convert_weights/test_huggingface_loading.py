"""Folders and repositories of transformers: loaded without it, and what is wrong with them."""

import hashlib
import json
import os
import sys
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from huggingface_files import write
from safetensors.numpy import load_file, save_file
from timm_checkpoints import assert_same

from convert_weights.table import ConversionError
from dave_jax.config import DaveConfig
from dave_jax.models import hub, resize, store
from dave_jax.models.positions import resample_positions

COMMIT = "0123456789abcdef" * 2 + "01234567"


def test_a_folder_without_torch_or_transformers(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torch", "transformers")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails
    monkeypatch.setitem(sys.modules, "transformers", None)
    params = write(tmp_path / "mine")
    model = hub.load(tmp_path / "mine")
    assert_same(model.params, params)
    assert (model.name, model.class_names, model.config) == ("mine", ("cat", "dog", "owl"), DaveConfig())
    assert (model.forward.config.eps, model.preprocessing.interpolation) == (1e-12, "bilinear")
    store.save(model, tmp_path / "ours")
    stored = hub.load(tmp_path / "ours")
    assert_same(stored.params, params)
    assert (stored.forward, stored.preprocessing, stored.class_names) == (model.forward, model.preprocessing, model.class_names)


def test_another_image_size_as_transformers_interpolates(tmp_path):
    """The same whether asked for at loading, of a stored model, or of one in memory."""
    position = write(tmp_path / "one")["position_embedding"]
    model = hub.load(tmp_path / "one")
    store.save(model, tmp_path / "ours")
    expected = resample_positions(position, (6, 3), num_prefix=1, old_grid=(4, 4), resampling="bicubic")
    assert np.abs(expected - resample_positions(position, (6, 3), num_prefix=1, old_grid=(4, 4))).max() > 0.01
    for other in (hub.load(tmp_path / "one", image_size=(24, 12)), hub.load(tmp_path / "ours", image_size=(24, 12))):
        np.testing.assert_array_equal(other.params["position_embedding"], expected)
        assert other.preprocessing.image_size == other.forward.config.image_size == (24, 12)
    np.testing.assert_array_equal(resize.at_image_size(model, (24, 12)).params["position_embedding"], expected)


def test_the_processor_decides_the_image_size(tmp_path):
    """As with DINOv2, trained at 518 pixels and run at 224."""
    position = write(tmp_path, {"size": 24})["position_embedding"]
    model = hub.load(tmp_path)
    assert model.preprocessing.image_size == model.forward.config.image_size == (24, 24)
    expected = resample_positions(position, (6, 6), num_prefix=1, resampling="bicubic")
    np.testing.assert_array_equal(model.params["position_embedding"], expected)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def fill(cache: Path, repository: str, folder: Path, absent: tuple[str, ...] = ()) -> None:
    root = cache / f"models--{repository.replace('/', '--')}"
    for part in ("blobs", f"snapshots/{COMMIT}", "refs", f".no_exist/{COMMIT}"):
        (root / part).mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    for name in absent:
        (root / ".no_exist" / COMMIT / name).touch()
    for file in folder.iterdir():
        blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(blob)
        (root / "snapshots" / COMMIT / file.name).symlink_to(Path(os.path.relpath(blob, root / "snapshots" / COMMIT)))


def test_a_repository_in_the_cache(cache, tmp_path):
    params = write(tmp_path / "one")
    fill(cache, "org/repo", tmp_path / "one")
    model = hub.load("org/repo")
    assert_same(model.params, params)
    assert model.source.startswith(f"org/repo@{COMMIT} sha256:")
    write(tmp_path / "two", processor=None)
    fill(cache, "org/bare", tmp_path / "two", absent=("preprocessor_config.json", "processor_config.json"))
    with pytest.raises(FileNotFoundError, match=rf"'org/bare@{COMMIT}' needs a preprocessor_config\.json"):
        hub.load("org/bare")


def test_what_a_folder_lacks(tmp_path):
    write(tmp_path, processor=None)
    with pytest.raises(FileNotFoundError, match=r"needs a preprocessor_config\.json beside its config\.json.*save its image processor"):
        hub.load(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"preprocessor_config\.json' must be a JSON object; it is a list"):
        hub.load(tmp_path)


def test_one_error_lists_the_arrays_that_do_not_fit(tmp_path):
    write(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    arrays["vit.embeddings.cls_token"] = np.zeros((1, 1, 8), np.float32)
    arrays["vit.pooler.dense.weight"] = np.zeros((12, 12), np.float32)
    arrays["classifier.scale"] = np.zeros(3, np.float32)
    del arrays["vit.encoder.layer.1.output.dense.bias"]
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(ConversionError) as error:
        hub.load(tmp_path)
    for problem in (
        "(3 problems)",
        r"vit.embeddings.cls_token has shape (1, 1, 8), which becomes (1, 8); class_token needs (1, 12)",
        "missing vit.encoder.layer.1.output.dense.bias (for blocks/mlp/fc2/bias",
        "leftover classifier.scale",
    ):
        assert problem in str(error.value)


@pytest.mark.parametrize("name", ["hidden_size", "intermediate_size"])
def test_absurd_sizes_are_errors_before_anything_is_allocated(name, tmp_path):
    write(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(document | {name: 10**12}))
    with pytest.raises(ValueError, match="1000000000000"):
        hub.load(tmp_path)


def test_a_kind_that_is_no_name(tmp_path):
    write(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(document | {"model_type": ["vit"]}))
    with pytest.raises(ValueError, match=r"is for model_type \['vit'\]"):
        hub.load(tmp_path)


def test_a_size_that_is_none_is_told(tmp_path):
    """The weights are for -16 pixels, says the file, and the processor for 16."""
    write(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(document | {"image_size": -16}))
    with pytest.raises(ValueError, match=r"config\.json' does not describe a network that dave_jax can build"):
        hub.load(tmp_path)
