"""`load` and `known_models`: names, revisions, and the settings that belong to names."""

import pytest

from dave_jax.config import DaveConfig
from dave_jax.models import hub
from dave_jax.models.presets import preset


def test_known_models():
    every = hub.known_models()
    assert len(every) == len(set(every)) == 686  # 690 that dave_jax builds, without four that are not on the hub
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


def test_a_revision_of_a_folder(tmp_path):
    with pytest.raises(ValueError, match="Leave revision out"):
        hub.load(tmp_path, revision="main")
