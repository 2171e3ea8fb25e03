"""dave_jax's own format: what is written is what is read."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from timm_checkpoints import TINY, assert_same, random_params

from convert_weights.table import ConversionError, flatten
from convert_weights.timm import config_from_options
from dave_jax.config import DaveConfig
from dave_jax.models import store
from dave_jax.models.checkpoint import Checkpoint
from dave_jax.models.model import Model
from dave_jax.models.positions import resample_positions
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.vit import ViT
from dave_jax.testing import tiny_model


@pytest.fixture
def model() -> Model:
    config = config_from_options(TINY | {"init_values": 1e-5, "reg_tokens": 2})
    return Model(
        params=jax.tree.map(jnp.asarray, random_params(config)),
        forward=ViT(config),
        config=DaveConfig(num_samples=7, chunk_size=3, noise_alpha=jnp.float32(0.37), rotation=12.5, schedule="angle", random_blur=True),
        preprocessing=Preprocessing((16, 16), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 0.9, "squash", "bilinear"),
        class_names=("tench", "Häuser", "chain saw"),
        name="tiny",
        source="made up",
    )


def rewrite(path, arrays=None, **metadata):
    """The file with other arrays or metadata."""
    with safe_open(path, framework="numpy") as file:
        stored = json.loads(file.metadata()["dave_jax"])
    save_file(load_file(path) if arrays is None else arrays, path, metadata={"dave_jax": json.dumps(stored | metadata)})


def test_what_is_saved_is_what_is_read(model, tmp_path):
    path = store.save(model, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "model.safetensors"
    for location in (path, path.parent):
        read = store.read(location)
        assert_same(read.params, model.params)
        assert all(isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(read.params))
        for field in ("forward", "preprocessing", "class_names", "name"):
            assert getattr(read, field) == getattr(model, field)
        assert read.config == dataclasses.replace(model.config, noise_alpha=float(model.config.noise_alpha))
        images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
        np.testing.assert_array_equal(read.logits(images), model.logits(images))


def test_the_source_says_where_the_file_is_and_where_it_came_from(model, tmp_path):
    store.save(model, tmp_path)
    read = store.read(tmp_path)
    assert read.source.startswith(f"{tmp_path / 'model.safetensors'} sha256:") and read.source.endswith(", from made up")
    assert store.read(tmp_path, place="here").source.startswith("here sha256:")


def test_the_same_model_makes_the_same_bytes(model, tmp_path):
    assert store.save(model, tmp_path / "a").read_bytes() == store.save(model, tmp_path / "b").read_bytes()


def test_a_quantised_kernel_moves_by_at_most_half_a_step(model, tmp_path):
    path = store.save(model, tmp_path, quantise=True)
    read, stored = flatten(store.read(tmp_path).params), load_file(path)
    kernels = {key for key in read if key.endswith("kernel")}
    assert {key for key, array in stored.items() if array.dtype == np.int8} == kernels
    for key, array in flatten(model.params).items():
        if key not in kernels:
            np.testing.assert_array_equal(read[key], np.asarray(array).astype(np.float16))
            continue
        scale = stored[f"{key}.scale"]
        assert scale.dtype == np.float32 and scale.shape == (*array.shape[:-2], 1, array.shape[-1])
        step = np.abs(np.asarray(array)).max(axis=-2, keepdims=True) / 127
        np.testing.assert_allclose(scale, step, rtol=1e-6)
        # the product of 127 and the scale is rounded to float32 once more
        assert np.all(np.abs(np.asarray(read[key], np.float64) - np.asarray(array, np.float64)) <= scale * (0.5 + 127 * 2.0**-23)), key


def test_quantised_files_are_smaller(model, tmp_path):
    plain, small = store.save(model, tmp_path / "a"), store.save(model, tmp_path / "b", quantise=True)
    kernels = sum(leaf.size for key, leaf in flatten(model.params).items() if key.endswith("kernel"))
    assert plain.stat().st_size - small.stat().st_size > 2 * kernels  # 3 bytes less for each, and the scales


def test_a_kernel_of_zeros_is_quantised(model, tmp_path):
    model.params["head"]["kernel"] = jnp.zeros_like(model.params["head"]["kernel"])
    store.save(model, tmp_path, quantise=True)
    assert not store.read(tmp_path).params["head"]["kernel"].any()


def test_another_image_size_resamples_the_position_embedding(model, tmp_path):
    store.save(model, tmp_path)
    read = store.read(tmp_path, image_size=(8, 32))
    assert read.forward.config.image_size == read.preprocessing.image_size == (8, 32)
    expected = resample_positions(np.asarray(model.params["position_embedding"]), (2, 8), num_prefix=3, old_grid=(4, 4))
    np.testing.assert_array_equal(read.params["position_embedding"], expected)
    with pytest.raises(ValueError, match=r"got \(18, 32\).*nearest are \(16, 32\) and \(20, 36\)"):
        store.read(tmp_path, image_size=(18, 32))


def test_a_save_that_fails_leaves_the_old_file_alone(model, tmp_path, monkeypatch):
    path = store.save(model, tmp_path)
    before = path.read_bytes()

    def fail(arrays, file, metadata):
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(store, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        store.save(dataclasses.replace(model, name="other"), tmp_path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_reader_of_the_old_file_keeps_it(model, tmp_path):
    path = store.save(model, tmp_path)
    before = path.read_bytes()
    (tmp_path / "reader").hardlink_to(path)
    store.save(dataclasses.replace(model, name="other"), tmp_path)
    assert (tmp_path / "reader").read_bytes() == before != path.read_bytes()


def test_a_checkpoint_of_another_format_is_not_overwritten(model, tmp_path):
    save_file({"head.weight": np.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="would be overwritten"):
        store.save(model, tmp_path)
    assert "head.weight" in load_file(tmp_path / "model.safetensors")


def test_only_vision_transformers_are_stored(model, tmp_path):
    with pytest.raises(TypeError, match="whose forward is function"):
        store.save(dataclasses.replace(model, forward=lambda params, image, decomposition: image), tmp_path)


def test_files_of_another_origin_or_version_are_refused(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        store.read(tmp_path)
    path = store.save(model, tmp_path)
    rewrite(path, version=2)
    with pytest.raises(ValueError, match="version 2, where this dave_jax reads 1; update it"):
        store.read(path)
    rewrite(path, version=1, vit={"heads": 3})
    with pytest.raises(ValueError, match="must describe a model of dave_jax"):
        store.read(path)
    for broken in ({"vit": 3.5}, {"preprocessing": None}, {"class_names": "abc"}, {"class_names": ["one"]}, {"class_names": [1, 2, 3]}):
        rewrite(store.save(model, tmp_path), **broken)
        with pytest.raises(ValueError, match="must describe a model of dave_jax"):
            store.read(path)
    for text in ("{", "[" * 100_000):
        save_file(load_file(path), path, metadata={"dave_jax": text})
        with pytest.raises(ValueError, match="must describe a model of dave_jax"):
            store.read(path)
    save_file(load_file(path), path, metadata={"dave_jax": "{"})
    with pytest.raises(ValueError, match="must describe a model of dave_jax"):
        store.read(path)
    save_file(load_file(path), path)
    with pytest.raises(ValueError, match="does not come from dave_jax"):
        store.read(path)


def test_a_cut_off_file_is_named(model, tmp_path):
    path = store.save(model, tmp_path)
    for length in (0, 6, 100, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(ValueError, match=r"must be a whole safetensors file; .*model\.safetensors"):
            store.read(path)


@pytest.mark.parametrize("fields", [{"mlp_width": float("nan")}, {"width": "12"}, {"num_registers": "2"}, {"depth": [2]}], ids=str)
def test_sizes_that_are_no_numbers_are_refused(fields, model, tmp_path):
    path = store.save(model, tmp_path)
    rewrite(path, vit=dataclasses.asdict(model.forward.config) | fields)
    with pytest.raises(ValueError, match=r"model\.safetensors'"):
        store.read(path)


def test_stored_images_that_the_patches_do_not_tile_are_told_with_the_file(model, tmp_path):
    path = store.save(model, tmp_path)
    rewrite(path, preprocessing=dataclasses.asdict(model.preprocessing) | {"image_size": [16, 17]})
    with pytest.raises(ValueError, match=r"model\.safetensors': image_size .* must be a multiple of the patch size"):
        store.read(path)


def test_images_that_patches_leave_pixels_of(tmp_path):
    model = tiny_model(image_size=(18, 23), overhang=True)
    image = np.random.default_rng(0).standard_normal((1, 18, 23, 3), np.float32)
    store.save(model, tmp_path)
    np.testing.assert_array_equal(store.read(tmp_path).logits(image), model.logits(image))
    np.testing.assert_array_equal(store.read(tmp_path, image_size=(16, 20)).logits(image[:, :16, :20]), model.logits(image))
    with pytest.raises(ValueError, match=r"multiple of the patch size \(4, 4\); got \(17, 20\)"):
        store.read(tmp_path, image_size=(17, 20))


def test_a_scale_that_does_not_fit_its_kernel_is_named(model, tmp_path):
    path = store.save(model, tmp_path, quantise=True)
    arrays = load_file(path)
    arrays["head/kernel.scale"] = arrays["head/kernel.scale"].T
    rewrite(path, arrays)
    with pytest.raises(ValueError, match=r"needs a scale for each output channel; in '.*safetensors' head/kernel has shape"):
        store.read(path)


def test_a_type_that_numpy_does_not_have_is_named(model, tmp_path):
    path = store.save(model, tmp_path, quantise=True)
    content = path.read_bytes().replace(b'"dtype":"I8"', b'"dtype":"F8_E4M3"', 1)
    size = int.from_bytes(content[:8], "little") + 5
    header = content[8 : 8 + size].rstrip(b" ")
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    with pytest.raises(ValueError, match=r"in '.*model\.safetensors' cannot be read .*convert it to float32"):
        dict(Checkpoint([path]))


def test_arrays_that_do_not_fit_are_listed(model, tmp_path):
    path = store.save(model, tmp_path)
    arrays = load_file(path)
    arrays["queue"] = arrays.pop("head/bias")
    rewrite(path, arrays)
    with pytest.raises(ConversionError, match=r"(?s)missing head/bias.*leftover queue"):
        store.read(path)
