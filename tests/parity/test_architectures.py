"""The shipped table against the timm that is installed, and timm's own saved models against `load`."""

import json
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import safetensors.torch
import timm
import torch
from timm.models import save_for_hf

from convert_weights.architectures import FILE, architectures, table_of_timm, to_text
from convert_weights.timm import config_from_options, params_from_arrays
from dave_jax.models import hub

pytestmark = pytest.mark.parity

SIZES = {"img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "num_classes", "init_values", "dynamic_img_size"}
"""Options that change sizes and values, but neither names nor ranks of arrays."""


@pytest.fixture(scope="module")
def made_now():
    return table_of_timm()


def test_the_shipped_table_is_what_timm_says(made_now):
    if json.loads(FILE.read_text())["made_from"] == f"timm {timm.__version__}":
        assert to_text(made_now, timm.__version__) == FILE.read_text()
    for name in set(architectures()) & set(made_now):  # another version may have more of them
        assert made_now[name]["options"] == architectures()[name]["options"], name
    assert len(set(architectures()) & set(made_now)) > 150


def test_the_default_tag_is_timms(made_now):
    for name, entry in made_now.items():
        if entry["tags"]:
            assert next(iter(entry["tags"])) == timm.get_pretrained_cfg(name).tag, name


def test_making_the_table_leaves_timm_as_it_was(made_now):
    assert timm.create_model("test_vit").num_features == 64


def _kinds() -> dict[str, str]:
    """One architecture, the narrowest, for each combination of options that changes a network's arrays."""
    kinds: dict[str, str] = {}
    for name, entry in architectures().items():
        if entry["family"] != "vit":
            continue
        try:
            config_from_options(entry["options"] | {"img_size": 2 * entry["options"].get("patch_size", 16)})
        except ValueError:
            continue
        kind = json.dumps({option: value for option, value in entry["options"].items() if option not in SIZES}, sort_keys=True)
        kind += str("init_values" in entry["options"])
        if kind not in kinds or _width(name) < _width(kinds[kind]):
            kinds[kind] = name
    return {name: kind for kind, name in kinds.items()}


def _width(name: str) -> int:
    return architectures()[name]["options"].get("embed_dim", 768)


@pytest.mark.parametrize("name", _kinds())
def test_timms_state_dict_has_the_arrays_that_the_options_say(name):
    options = architectures()[name]["options"]
    size = 2 * options.get("patch_size", 16)
    with torch.device("meta"):
        model = timm.create_model(name, depth=1, img_size=size)
    arrays = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in model.state_dict().items()}
    params_from_arrays(arrays, config_from_options(options | {"depth": 1, "img_size": size}))  # it checks names and shapes


def _random(model: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def _assert_same_logits(ours, theirs: torch.nn.Module):
    images = np.random.default_rng(0).normal(size=(2, *ours.preprocessing.image_size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(ours.logits(jnp.asarray(images)), expected, atol=1e-5 * np.abs(expected).max())


TINY = {"embed_dim": 24, "depth": 2, "num_heads": 2}
SAVED = {
    "vit_base_patch16_224": {"img_size": 32, "num_classes": 5, "qk_norm": True},
    "deit3_small_patch16_224": {"img_size": 48, "num_classes": 5, "global_pool": "avg"},
    "vit_base_patch16_siglip_224": {"img_size": 32, "num_classes": 5},
    "vit_small_patch14_reg4_dinov2": {"img_size": (28, 42), "num_classes": 5},
    "deit_tiny_distilled_patch16_224": {"img_size": 32, "num_classes": 5},
    "vit_base_patch16_clip_quickgelu_224": {"img_size": 32},
}


@pytest.mark.parametrize("name", SAVED)
def test_what_timm_saves_is_what_we_load(name, tmp_path):
    model = _random(timm.create_model(name, **TINY, **SAVED[name]))
    save_for_hf(model, tmp_path, safe_serialization=True, model_config={"label_names": ["a", "b", "c", "d", "e"]})
    ours = hub.load(tmp_path)
    _assert_same_logits(ours, model)
    settings = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{tmp_path}"))
    assert (3, *ours.preprocessing.image_size) == settings["input_size"]
    assert (ours.preprocessing.mean, ours.preprocessing.std) == (tuple(settings["mean"]), tuple(settings["std"]))
    assert (ours.preprocessing.crop_fraction, ours.preprocessing.crop_mode) == (settings["crop_pct"], settings["crop_mode"])
    assert ours.class_names == (("a", "b", "c", "d", "e") if "num_classes" in SAVED[name] else None)


@pytest.mark.parametrize("own", [64, (32, 128)])
@pytest.mark.parametrize("size", [96, (32, 64), (32, 128), (128, 32)])
def test_another_image_size_is_timms(own, size, tmp_path):
    name, options = "vit_base_patch16_224", TINY | {"num_classes": 5}
    save_for_hf(_random(timm.create_model(name, img_size=own, **options)), tmp_path, safe_serialization=True)
    shape = own if isinstance(own, tuple) else (own, own)
    theirs = timm.create_model(
        name,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "model.safetensors"), "num_classes": 5, "input_size": (3, *shape)},
        img_size=size,
        **options,
    )
    _assert_same_logits(hub.load(tmp_path, image_size=size), theirs.eval())


def test_the_way_out_of_a_pickle_works(tmp_path, monkeypatch):
    model = _random(timm.create_model("vit_base_patch16_224", img_size=32, num_classes=5, **TINY))
    save_for_hf(model, tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match="never unpickles") as error:
        hub.load(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent(str(error.value).partition("\n")[2]), {"torch": torch, "safetensors": safetensors})
    _assert_same_logits(hub.load(tmp_path), model)
