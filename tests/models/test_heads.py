"""Networks without their head, and with another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
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
    np.testing.assert_array_equal(both[:, :16], without_head(model).logits(images))


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
