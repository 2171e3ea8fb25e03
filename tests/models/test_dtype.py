"""Parameters in bfloat16: what `load` gives, what `save` keeps, and what computes with them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from timm_checkpoints import assert_same, write_checkpoint

import dave_jax as dave
from dave_jax.attribution.methods import methods
from dave_jax.effective.precision import cast
from dave_jax.models.heads import with_head, without_head
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.resize import at_image_size
from dave_jax.models.swin import Swin
from dave_jax.models.swin_config import SwinConfig, init_params
from dave_jax.testing import tiny_image_text, tiny_model

KEY = jax.random.key(1)
CONFIG = dave.DaveConfig(num_samples=4, noise_alpha=0.3)
IMAGES = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))


def half(model):
    return dataclasses.replace(model, params=cast(model.params, jnp.bfloat16))


def widened(model):
    """The rounded parameters in float32: what bfloat16 computes but for its own rounding."""
    return dataclasses.replace(model, params=cast(half(model).params, jnp.float32))


def tiny_swin():
    sizes = {"width": 8, "depths": (2, 1), "num_heads": (2, 4), "mlp_widths": (16, 32), "windows": ((2, 2),) * 2}
    config = SwinConfig((16, 16), **sizes, num_classes=3, pretrained_windows=(0, 0))
    return Model(init_params(KEY, config), Swin(config), preprocessing=Preprocessing(image_size=(16, 16)))


def test_a_checkpoint_is_rounded_to_the_type(tmp_path):
    params = write_checkpoint(tmp_path)
    assert_same(dave.load(tmp_path, dtype="bfloat16").params, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params))
    assert_same(dave.load(tmp_path).params, params)
    with pytest.raises(ValueError, match=r"one of .*'bfloat16', None.*got 'float16'"):
        dave.load(tmp_path, dtype="float16")


def test_what_is_saved_keeps_its_type(tmp_path):
    model = half(tiny_model())
    dave.save(model, tmp_path / "half")
    dave.save(model, tmp_path / "small", quantise=True)
    assert_same(dave.load(tmp_path / "half").params, model.params)
    for name, dtype, expected in (("half", None, "bfloat16"), ("small", None, "bfloat16"), ("half", "float32", "float32")):
        read = dave.load(tmp_path / name, dtype=dtype)
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(read.params)} == {expected}
    dave.save(widened(model), tmp_path / "whole")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.7 * sizes[1]


@pytest.mark.parametrize("build", [tiny_model, pytest.param(tiny_swin, marks=pytest.mark.slow)])
def test_logits_and_maps_come_in_the_images_type(build):
    """Eight bits: what a random network computes in them is near what it computes in 24."""
    model, whole = half(build()), widened(build())
    logits, expected = model.logits(IMAGES), whole.logits(IMAGES)
    assert logits.dtype == jnp.float32
    assert 0 < float(jnp.abs(logits - expected).max()) < 0.03 * float(jnp.abs(expected).max())
    maps, near = (dave.explain(one, IMAGES, [0, 1], key=KEY, config=CONFIG, raw=True) for one in (model, whole))
    assert maps.dtype == jnp.float32
    assert np.corrcoef(maps.ravel(), near.ravel())[0, 1] > 0.98
    own = dave.explain(model, IMAGES, [0, 1], key=KEY, config=dataclasses.replace(CONFIG, precision="float32"), raw=True)
    np.testing.assert_allclose(own, near, atol=1e-5 * float(jnp.abs(near).max()))  # float32, in two programs


def test_methods_compute_in_the_images_type():
    """They look inside the network, and what they find there meets images and cotangents."""
    method = methods["legrad"]
    found, expected = (method(model, IMAGES, [0, 1], raw=True) for model in (half(tiny_model()), widened(tiny_model())))
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(jnp.abs(expected).max()))


def test_contributions_are_complete_in_the_images_type():
    model, whole = half(tiny_model()), widened(tiny_model())
    found, expected = (dave.bias_contributions(one, IMAGES[0], 2) for one in (model, whole))
    assert_same(found.terms, expected.terms)
    assert found.logit == expected.logit and found.image == expected.image and found.place.dtype == jnp.float32
    assert float(dave.completeness(model, IMAGES[0], 2)) < 1e-5
    np.testing.assert_array_equal(*(dave.conservation(one, IMAGES[0], 2).residual for one in (model, whole)))
    text = dave.explain_text(half(tiny_image_text()), IMAGES, "a cat")
    assert text.scores.dtype == jnp.float32 and float(text.residual.max()) < 1e-5


def test_what_changes_a_model_keeps_its_type():
    model = half(tiny_model())
    features = without_head(model)
    probe = with_head(features, jnp.ones((features.logits(IMAGES).shape[1], 2)), jnp.zeros(2))
    prompted = half(tiny_image_text()).prompts(["a cat", "a dog"])
    for changed in (at_image_size(model, (24, 16)), probe, prompted):
        assert {leaf.dtype for leaf in jax.tree.leaves(changed.params)} == {jnp.dtype(jnp.bfloat16)}
        assert changed.logits(jnp.ones((1, *changed.preprocessing.image_size, 3))).dtype == jnp.float32
