"""transformers' files without transformers: what they mean, and what is wrong with them."""

import hashlib
import json
import os
import sys
from pathlib import Path

import huggingface_hub.constants
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from timm_checkpoints import assert_same, random_params

from convert_weights.huggingface import describe
from convert_weights.image_processor import read_preprocessing
from convert_weights.table import ConversionError
from dave_jax.config import DaveConfig
from dave_jax.models import hub, resize, store
from dave_jax.models.positions import resample_positions

COMMIT = "0123456789abcdef" * 2 + "01234567"
TINY = {
    **{"model_type": "vit", "architectures": ["ViTForImageClassification"], "id2label": {"1": "dog", "0": "cat", "2": "owl"}},
    **{"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 16, "patch_size": 4},
}
SIXTEEN = {"size": {"height": 16, "width": 16}, "image_processor_type": "ViTImageProcessor"}


def to_transformers(params, config) -> dict[str, np.ndarray]:
    """The state dict of ViTForImageClassification that has these parameters."""
    state: dict[str, np.ndarray] = {}

    def put(name, part):
        for leaf, value in part.items():
            state[f"{name}.{'bias' if leaf == 'bias' else 'weight'}"] = value.T if leaf == "kernel" else value

    embeddings = "vit.embeddings"
    state[f"{embeddings}.cls_token"] = params["class_token"][None]
    state[f"{embeddings}.position_embeddings"] = params["position_embedding"][None]
    kernel = params["patch_embedding"]["kernel"].reshape(*config.patch_size, 3, -1)
    state[f"{embeddings}.patch_embeddings.projection.weight"] = np.einsum("hwco->ochw", kernel)
    state[f"{embeddings}.patch_embeddings.projection.bias"] = params["patch_embedding"]["bias"]
    put("vit.layernorm", params["final_norm"])
    put("classifier", params["head"])
    for i in range(config.depth):
        block = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"])
        at = f"vit.encoder.layer.{i}"
        put(f"{at}.layernorm_before", block["attention_norm"])
        put(f"{at}.layernorm_after", block["mlp_norm"])
        for name in ("query", "key", "value"):
            put(f"{at}.attention.attention.{name}", block["attention"][name])
        put(f"{at}.attention.output.dense", block["attention"]["proj"])
        put(f"{at}.intermediate.dense", block["mlp"]["fc1"])
        put(f"{at}.output.dense", block["mlp"]["fc2"])
    return {name: np.ascontiguousarray(value) for name, value in state.items()}


def write(folder: Path, processor=SIXTEEN, **document):
    """A tiny random model as transformers saves it; returns its parameters."""
    document = TINY | document
    config = describe(document, SIXTEEN).config
    params = random_params(config)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(to_transformers(params, config), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(document))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return params


# Loading


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


def fill(cache: Path, repository: str, folder: Path, absent: str = "") -> None:
    root = cache / f"models--{repository.replace('/', '--')}"
    for part in ("blobs", f"snapshots/{COMMIT}", "refs", f".no_exist/{COMMIT}"):
        (root / part).mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    if absent:
        (root / ".no_exist" / COMMIT / absent).touch()
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
    fill(cache, "org/bare", tmp_path / "two", absent="preprocessor_config.json")
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


# config.json


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({}, {"activation": "gelu", "pooling": "token", "qkv_bias": True, "position_resampling": "bicubic", "num_registers": 0}),
        ({"hidden_act": "gelu_pytorch_tanh", "qkv_bias": False}, {"activation": "gelu_tanh", "qkv_bias": False}),
        ({"model_type": "deit", "architectures": ["DeiTForImageClassification"]}, {"num_registers": 1, "distillation_token": False}),
        (
            {"model_type": "deit", "architectures": ["DeiTForImageClassificationWithTeacher"]},
            {"num_registers": 0, "distillation_token": True, "num_classes": 3},
        ),
        (
            {"model_type": "dinov2", "architectures": ["Dinov2ForImageClassification"], "mlp_ratio": 4, "use_swiglu_ffn": True},
            {"pooling": "token_and_mean", "eps": 1e-6, "layer_scale": True, "gated_mlp": True, "activation": "silu", "mlp_width": 32},
        ),
        ({"model_type": "dinov2", "architectures": ["Dinov2Model"]}, {"pooling": "token", "num_classes": 0, "mlp_width": 48}),
        (
            {"model_type": "dinov2_with_registers", "architectures": ["Dinov2WithRegistersModel"]},
            {"num_registers": 4, "position_resampling": "antialiased"},
        ),
        ({"model_type": "ijepa", "architectures": ["IJepaModel"]}, {"pooling": "avg", "class_token": False, "num_classes": 0}),
        ({"id2label": None}, {"num_classes": 2}),
        ({"id2label": None, "num_labels": 7}, {"num_classes": 7}),
        ({"id2label": {}}, {"num_classes": 0}),
    ],
    ids=str,
)
def test_the_network(document, fields):
    config = describe(TINY | document, SIXTEEN).config
    assert {name: getattr(config, name) for name in fields} == fields
    assert (config.width, config.depth, config.num_heads, config.image_size) == (12, 2, 2, (16, 16))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"id2label": {"10": "k", **{str(i): chr(97 + i) for i in range(10)}}}, tuple("abcdefghijk")),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, None),
        ({"id2label": None}, None),
        ({"architectures": ["ViTModel"]}, None),
    ],
    ids=str,
)
def test_class_names(labels, names):
    assert describe(TINY | labels, SIXTEEN).class_names == names


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"model_type": "swin"}, r"\['vit', 'deit', 'ijepa', 'dinov2', 'dinov2_with_registers'\].*'swin'"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, r"\['ViTModel', 'ViTForImageClassification'\].*'ViTForMaskedImageModeling'"),
        ({"architectures": None}, "must name the class that wrote the checkpoint"),
        ({"architectures": ["DeiTModel"]}, "must name the class that wrote the checkpoint"),
        ({"hidden_act": "gelu_10"}, "hidden_act 'gelu_10' is none of"),
        ({"num_channels": 1, "head_dim": 8}, r"num_channels must be 3; got 1; head_dim \* num_attention_heads must be hidden_size"),
        ({"id2label": {"0": "cat", "2": "dog"}}, "numbers 0 to 1"),
        ({"hidden_size": "many"}, "hidden_size must be a whole number; got 'many'"),
        ({"id2label": {"cat": 0}}, "numbers 0 to 0"),
        ({"hidden_size": [12]}, "laid out as transformers writes it"),
        ({"num_attention_heads": 5}, "num_heads must divide width"),
        ({"patch_size": 5}, r"multiple of the patch size \(5, 5\); got \(16, 16\)"),
    ],
    ids=str,
)
def test_what_config_json_may_not_say(document, message):
    with pytest.raises(ValueError, match=message):
        describe(TINY | document, SIXTEEN)


# preprocessor_config.json


@pytest.mark.parametrize(
    ("document", "processor", "fields"),
    [
        (
            {},
            "ViT",
            {"image_size": (224, 224), "crop_fraction": 1.0, "crop_mode": "squash", "interpolation": "bilinear", "std": (0.5,) * 3},
        ),
        ({}, "DeiT", {"image_size": (224, 224), "crop_fraction": 0.875, "crop_mode": "squash", "interpolation": "bicubic"}),
        ({"size": 256}, "Bit", {"image_size": (224, 224), "crop_fraction": 0.875, "crop_mode": "center", "crop_start": "down"}),
        ({"size": 384, "feature_extractor_type": "ViTFeatureExtractor"}, "Bit", {"image_size": (384, 384), "crop_mode": "squash"}),
        ({"image_processor_type": "CLIPImageProcessorFast", "crop_size": 160}, "ViT", {"image_size": (160, 160), "crop_mode": "center"}),
        (
            {"size": {"height": 32, "width": 48}, "do_normalize": False},
            "ViT",
            {"image_size": (32, 48), "mean": (0.0,) * 3, "std": (1.0,) * 3},
        ),
        ({"size": {"shortest_edge": 256, "longest_edge": None}, "rescale_factor": 0.00392156862745098}, "CLIP", {"crop_fraction": 0.875}),
    ],
    ids=str,
)
def test_the_preprocessing(document, processor, fields):
    read = read_preprocessing(document, processor=processor)
    assert {name: getattr(read, name) for name in fields} == fields


def test_every_crop_comes_back():
    """The fraction between two whole numbers is rounded; the resized edge must not be."""
    for crop in (1, 3, 24, 96, 113, 160, 224, 378, 384, 518):
        for edge in range(crop, 600):
            document = {"size": {"shortest_edge": edge}, "crop_size": crop}
            assert read_preprocessing(document, processor="Bit").resized(edge, edge) == (edge, edge)


def test_another_image_size_keeps_the_share():
    read = read_preprocessing({"size": {"shortest_edge": 256}}, processor="Bit", image_size=(448, 448))
    assert (read.image_size, read.resized(512, 512)) == ((448, 448), (512, 512))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"image_processor_type": "SamImageProcessor"}, r"processor 'Sam' is none of \['ViT', 'DeiT', 'Bit', 'CLIP', 'Siglip'\]"),
        ({"do_resize": False}, "do_resize=false is not supported"),
        ({"do_rescale": False, "do_pad": True}, "do_pad=True is not supported; do_rescale=false"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor must be 1/255; got 0.00784"),
        ({"size": {"longest_edge": 224}}, "height and width, or shortest_edge"),
        ({"size": {"shortest_edge": 224}}, "images of different shapes"),
        ({"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": [224, 160]}, "needs a square crop"),
        ({"size": 224, "do_center_crop": True, "crop_size": 256}, "no larger than the resized image"),
        ({"size": [256, 256], "do_center_crop": True, "crop_size": [224, 160]}, "aspect of the resized image"),
        ({"resample": 9}, "9 is not a valid Resampling"),
        ({"image_mean": [0.5]}, "not enough values"),
        ({"image_std": [0, 0, 0]}, "std must be a tuple of three positive numbers"),
        ({"size": {"height": "tall", "width": 3}}, "tall"),
        ({"rescale_factor": "small"}, "not laid out so"),
    ],
    ids=str,
)
def test_what_preprocessor_config_json_may_not_say(document, message):
    with pytest.raises(ValueError, match=message) as error:
        read_preprocessing(document, processor="ViT")
    assert "preprocessor_config.json must say how photographs become images" in str(error.value)
