"""Every method on a model that was traced: finite maps, or an error that says what it needs."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import dave_jax as dave
from dave_jax.attribution.methods import methods
from dave_jax.effective.decomposition import presets

pytestmark = pytest.mark.slow

KERNELS = [0.3 * jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(48, 8), (8, 8), (8, 3)])]
NEED_A_VIT = {
    "grad_cam", "attention_grad_cam", "rollout", "gradient_rollout", "transformer_attribution", "gae", "legrad", "full_grad_plus",
}  # fmt: skip


def network(params, image):
    """A patch embedding, a norm, an attention and an activation."""
    tokens = jax.nn.standardize(image.reshape(2, 4, 2, 4, 3).swapaxes(1, 2).reshape(4, 48) @ params[0])
    tokens = tokens + jax.nn.softmax(tokens @ params[1] @ tokens.T) @ tokens
    return jax.nn.gelu(tokens).mean(0) @ params[2] + 0.1


@pytest.fixture
def model():
    config = dave.DaveConfig(num_samples=2, noise_alpha=0.3)
    return dave.Model.from_function(network, KERNELS, preprocessing=dave.Preprocessing(image_size=(8, 8)), config=config)


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(9), (1, 8, 8, 3))


def few(name):
    """The method, at its cheapest."""
    method = methods[name]
    cheap = {"num_samples": 2, "num_steps": 2, "num_masks": 4, "window": 4, "stride": 4}
    return dataclasses.replace(method, **{field: value for field, value in cheap.items() if hasattr(method, field)})


@pytest.mark.parametrize("name", methods)
def test_a_method_gives_maps_or_says_what_it_needs(name, model, images):
    call = lambda: few(name)(model, images, [1], key=jax.random.key(0))
    if name in NEED_A_VIT:
        with pytest.raises(TypeError, match=r"looks at the tokens and attention matrices of a vision .* Traced are not known"):
            call()
    else:
        maps = call()
        assert maps.shape == (1, 8, 8) and bool(jnp.isfinite(maps).all()) and float(maps.max()) > 0


@pytest.mark.parametrize("name", sorted(presets))
def test_completeness_and_conservation(name, model, images):
    """The same numbers from both; where a decomposition freezes all operators, nothing is missing."""
    lacking = float(dave.completeness(model, images[0], 1, name))
    found = dave.conservation(model, images[0], 1, name)
    assert found.states == ("image", "logit") and found.decomposition == name
    assert bool(jnp.isfinite(found.relevance).all()) and jnp.isfinite(lacking)
    assert found.relevance[-1] == pytest.approx(float(model.logits(images)[0, 1]), rel=1e-5)
    if name in ("effective", "cp_lrp_identity", "libragrad"):
        assert lacking < 1e-5


def test_bias_contributions(model, images):
    parts = dave.bias_contributions(model, images[0], 1)
    assert float(parts.image + parts.total) == pytest.approx(float(parts.logit), rel=1e-5)
    assert set(parts.terms) == {"constants", "leak"} and float(parts.terms["leak"]) == 0
    assert float(parts.terms["constants"]) == pytest.approx(0.1, rel=1e-4)  # the only constant that joins the stream
