"""Networks without their head, and with another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.models import bcos_config
from dave_jax.models.heads import WithHead, with_head, without_head
from dave_jax.testing import tiny_image_text, tiny_model


@pytest.mark.parametrize("options", [{}, {"distillation_token": True}, {"pooling": "avg"}])
def test_its_own_head_gives_the_model_back(options, key):
    model = tiny_model(**options)
    if "distillation_head" in model.params:
        model = dataclasses.replace(model, params=model.params | {"distillation_head": model.params["head"]})
    images = jax.random.normal(key, (2, 16, 16, 3))
    again = with_head(without_head(model), **model.params["head"])
    assert again.forward == model.forward
    np.testing.assert_array_equal(again.logits(images), model.logits(images))


def test_other_pooling_is_that_of_the_tokens(key):
    model = tiny_model()
    images = jax.random.normal(key, (1, 16, 16, 3))
    both = without_head(model, pooling="token_and_mean").logits(images)
    np.testing.assert_allclose(both[:, :16], without_head(model).logits(images), atol=1e-6)  # whose last block computes one token


def test_a_network_of_others_gets_a_head_too(x64, key):
    function = dave.Model.from_function(lambda image: jnp.tanh(image).reshape(-1)[:7], preprocessing=dave.Preprocessing(image_size=(4, 4)))
    kernel, bias = np.arange(14.0).reshape(7, 2), np.ones(2)
    model = with_head(without_head(function), kernel, bias, ("cat", "dog"))
    assert isinstance(model.forward, WithHead)
    images = jax.random.normal(key, (1, 4, 4, 3))
    np.testing.assert_allclose(model.logits(images), function.logits(images) @ kernel + bias[None], rtol=1e-12)
    w_eff = dave.effective_transformation(model, images[0], jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(jnp.vdot(w_eff, images[0]), model.logits(images)[0, 0] - 1, rtol=1e-12)  # complete but for the bias


def test_of_images_and_text_the_embeddings_of_images(key):
    model = tiny_image_text()
    images = jax.random.normal(key, (2, 16, 16, 3))
    features = without_head(model)
    np.testing.assert_array_equal(features.logits(images), model.embed_images(images))
    kernel = np.eye(features.logits(images).shape[1], 2, dtype=np.float32)
    headed = with_head(features, kernel, np.array([1.0, 2.0], np.float32))
    np.testing.assert_allclose(headed.logits(images), features.logits(images)[:, :2] + jnp.array([[1.0, 2.0]]), atol=1e-6)


def test_pooling_is_for_vision_transformers():
    function = dave.Model.from_function(lambda image: image.sum((0, 1)), preprocessing=dave.Preprocessing(image_size=(4, 4)))
    with pytest.raises(ValueError, match="Leave pooling out"):
        without_head(function, pooling="avg")
    with pytest.raises(ValueError, match="Leave pooling out, and pooled_blocks"):
        without_head(function, pooled_blocks=2)


def test_class_tokens_of_more_blocks_end_in_those_of_fewer(key):
    model = tiny_model(depth=4)
    images = jax.random.normal(key, (2, 16, 16, 3))
    one, two, four = (without_head(model, pooled_blocks=count).logits(images) for count in (1, 2, 4))
    assert (one.shape, two.shape, four.shape) == ((2, 16), (2, 32), (2, 64))
    np.testing.assert_allclose(two[:, 16:], one, atol=1e-6)
    np.testing.assert_allclose(four[:, 32:], two, atol=1e-6)
    cut = dataclasses.replace(model, params=model.params | {"blocks": jax.tree.map(lambda leaf: leaf[:2], model.params["blocks"])})
    cut = dataclasses.replace(cut, forward=dave.ViT(dataclasses.replace(model.forward.config, depth=2)))
    np.testing.assert_allclose(four[:, 16:32], without_head(cut).logits(images), atol=1e-6)


def test_a_head_on_four_blocks_is_saved_whole(tmp_path, key):
    features = without_head(tiny_model(depth=4, num_registers=1), pooling="token_and_mean", pooled_blocks=4)
    model = with_head(features, np.asarray(jax.random.normal(key, (5 * 16, 2))), np.zeros(2, np.float32), ("cat", "dog"))
    dave.save(model, tmp_path)
    images = jax.random.normal(key, (1, 16, 16, 3))
    again = dave.load(tmp_path)
    assert again.forward == model.forward and again.forward.config.pooled_blocks == 4
    np.testing.assert_array_equal(again.logits(images), model.logits(images))


@pytest.mark.parametrize("options", [{"pooling": "map"}, {"pooling": "token", "num_registers": 1}])
def test_a_network_that_pools_in_another_way_is_saved_whole(options, tmp_path, key):
    features = without_head(tiny_model(**options), pooling="avg")
    model = with_head(features, np.ones((16, 2), np.float32), np.zeros(2, np.float32))
    dave.save(model, tmp_path)
    images = jax.random.normal(key, (1, 16, 16, 3))
    np.testing.assert_array_equal(dave.load(tmp_path).logits(images), model.logits(images))


def test_what_cannot_be_another_head():
    with pytest.raises(ValueError, match="trained to pool with"):
        without_head(tiny_model(), pooling="map")
    with pytest.raises(ValueError, match="does not fit 'token_and_mean'"):
        without_head(tiny_model(projection=6), pooling="token_and_mean")
    with pytest.raises(ValueError, match="pooled_blocks must be at most depth; got 3 of 2"):
        without_head(tiny_model(), pooled_blocks=3)
    config = dave.BcosViTConfig(patch_size=(4, 4), width=16, depth=1, num_heads=2, mlp_width=8, num_classes=3)
    bcos = dave.Model(bcos_config.init_params(jax.random.key(0), config), dave.BcosViT(config), preprocessing=dave.Preprocessing((16, 16)))
    for attempt in (lambda: without_head(bcos), lambda: with_head(bcos, np.ones((3, 2)), np.zeros(2))):
        with pytest.raises(ValueError, match="B-cos network"):
            attempt()


@pytest.mark.parametrize(
    ("kernel", "bias", "names", "message"),
    [
        (np.zeros((2, 16)), np.zeros(2), None, r"here \(16, classes\).*\(2, 16\) and \(2,\)\. PyTorch's weight"),
        (np.zeros((16, 2)), np.zeros(3), None, r"\(16, 2\) and \(3,\)"),
        (np.zeros((16, 2)), np.zeros(2), ("cat",), "1 for 2 classes"),
    ],
)
def test_a_head_that_does_not_fit(kernel, bias, names, message):
    with pytest.raises(ValueError, match=message):
        with_head(without_head(tiny_model()), kernel.astype(np.float32), bias.astype(np.float32), names)
