import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.models.rotary import Rotary
from dave_jax.testing import tiny_model

ARCHITECTURES = [
    {},
    {"pooling": "avg", "final_norm": "pooled", "class_token": False, "layer_scale": True},
    {"pooling": "map", "num_registers": 2},
    {"pooling": "token_and_mean", "num_registers": 1, "layer_scale": True, "pooled_blocks": 2, "stem_widths": (4, 6)},
    {"distillation_token": True, "pre_norm": True, "position_on_prefix": False},
    {"norm": "rms_norm", "gated_mlp": True, "activation": "silu", "patch_norm": True, "query_key_norm": True, "mlp_norm": True},
    {"rotary": Rotary("learned"), "relative_position": True, "position_embedding": False, "key_bias": False, "post_norm": True},
]


@pytest.fixture(params=ARCHITECTURES, ids=str)
def model(request):
    return tiny_model(**request.param)


def double(model):
    return dataclasses.replace(model, params=jax.tree.map(lambda leaf: leaf.astype(float), model.params))


def test_complete_in_float32(model):
    image = jax.random.normal(jax.random.key(1), (16, 16, 3))
    assert all(float(dave.completeness(model, image, target)) < 1e-5 for target in range(5))


def test_complete_in_double_precision(model, x64):
    image = jax.random.normal(jax.random.key(1), (16, 16, 3))
    assert float(dave.completeness(double(model), image, 3)) < 1e-12


def test_the_gradient_is_not_complete(model):
    """Else completeness would say nothing about the decomposition."""
    image = jax.random.normal(jax.random.key(1), (16, 16, 3))
    assert float(dave.completeness(model, image, 3, "gradient")) > 1e-3


def test_terms_add_up(model, x64):
    image = jax.random.normal(jax.random.key(1), (16, 16, 3))
    model = double(model)
    parts = dave.bias_contributions(model, image, 3)
    assert float(parts.logit) == pytest.approx(float(model.logits(image[None])[0, 3]), rel=1e-12)
    assert float(parts.image + parts.total) == pytest.approx(float(parts.logit), rel=1e-10)
    assert float(parts.share) == pytest.approx(float(parts.total / parts.logit))
    in_blocks = sum(float(jnp.sum(term)) for path, term in parts.terms.items() if path.startswith("blocks/"))
    assert float(jnp.sum(parts.per_block)) == pytest.approx(in_blocks, rel=1e-10)


@pytest.mark.slow
def test_a_term_is_what_its_bias_does(x64):
    """With a one-layer head the head's bias contributes exactly its value; the position embedding's term has a place."""
    model = double(tiny_model())
    image = jax.random.normal(jax.random.key(1), (16, 16, 3))
    parts = dave.bias_contributions(model, image, 2)
    assert float(parts.terms["head/bias"]) == pytest.approx(float(model.params["head"]["bias"][2]), rel=1e-12)
    assert parts.terms["blocks/mlp/fc1/bias"].shape == (2,)
    assert parts.place.shape == (4, 4)


@pytest.mark.slow
def test_place_is_the_part_of_patches(x64):
    """Without a class token every token is a patch: the map holds all terms but those after pooling."""
    model = double(tiny_model(pooling="avg", final_norm="pooled", class_token=False))
    image = jax.random.normal(jax.random.key(1), (16, 16, 3))
    parts = dave.bias_contributions(model, image, 2)
    after = sum(float(jnp.sum(parts.terms[path])) for path in ("head/bias", "final_norm/bias"))
    assert float(parts.place.sum()) == pytest.approx(float(parts.total) - after, rel=1e-10)
    assert np.asarray(parts.place).std() > 1e-6


def test_contrast(model):
    image = jax.random.normal(jax.random.key(1), (16, 16, 3))
    contrast = jnp.zeros(5).at[1].set(1.0).at[2].set(-1.0)
    one, two, both = (dave.bias_contributions(model, image, target) for target in (1, 2, contrast))
    assert float(both.image) == pytest.approx(float(one.image - two.image), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("names", [("stages",), ("blocks", "0")])
def test_a_networks_own_names_mean_nothing_to_us(names):
    """Only networks of ours stack their blocks on a leading axis."""
    params = {"bias": jnp.arange(3.0), "kernel": jnp.ones((3, 3))}
    for name in reversed(names):
        params = {name: params}

    def forward(params, image):
        for name in names:
            params = params[name]
        return image.mean((0, 1)) @ params["kernel"] + params["bias"]

    model = dave.Model.from_function(forward, params, preprocessing=dave.Preprocessing(image_size=(4, 4)))
    found = dave.bias_contributions(model, jnp.ones((4, 4, 3)), 2)
    np.testing.assert_allclose(found.terms["/".join((*names, "bias"))], 2.0, rtol=1e-6)
