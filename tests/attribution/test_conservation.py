import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.bias import BIAS_LIKE
from dave_jax.effective.decomposition import resolve
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.testing import tiny_model

pytestmark = pytest.mark.slow

FROZEN = ("effective", "cp_lrp_identity", "libragrad")
ARCHITECTURES = [
    {},
    {"pooling": "map", "num_registers": 2, "layer_scale": True},
    {"distillation_token": True, "pre_norm": True, "position_on_prefix": False},
    {"norm": "rms_norm", "gated_mlp": True, "activation": "silu", "patch_norm": True, "query_key_norm": True, "mlp_norm": True},
]


PICTURE = np.random.default_rng(1).normal(size=(16, 16, 3))


def double(**options):
    model = tiny_model(**options)
    return dataclasses.replace(model, params=jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), model.params))


@pytest.mark.parametrize("options", ARCHITECTURES, ids=str)
def test_frozen_operators_conserve_at_every_step(options, x64):
    model = double(**options)
    for name in ("libragrad",) if options else FROZEN:
        found = dave.conservation(model, PICTURE, 3, name)
        assert found.decomposition == name and found.residual.shape == (4,)
        assert float(jnp.abs(found.residual).max()) < 1e-12
        assert float(jnp.abs(found.relevance).min()) > 1e-6  # something is conserved


def test_others_do_not_and_say_so(x64):
    """Where a residual lies tells what is not conserved: the last norm for the gradient, blocks alone for the LRP ones."""
    model = double()
    residual = {name: np.abs(dave.conservation(model, PICTURE, 3, name).residual) for name in ("gradient", "cp_lrp", "attn_lrp")}
    assert all((found[1:-1] > 1e-4).all() for found in residual.values())
    assert residual["gradient"][-1] > 1e-2 and residual["cp_lrp"][-1] < 1e-12 and residual["attn_lrp"][-1] < 1e-12
    assert all(found[0] < 1e-12 for found in residual.values())  # patches are embedded linearly


@pytest.mark.parametrize("name", ["effective", "attn_lrp"])
def test_residuals_sum_to_what_completeness_lacks(name, x64):
    model = double()
    found = dave.conservation(model, PICTURE, 3, name)
    lacks = found.relevance[-1] - found.relevance[0] - jnp.sum(found.bias)
    assert float(jnp.sum(found.residual)) == pytest.approx(float(lacks), abs=1e-12)
    largest = max(abs(float(part)) for part in (found.relevance[-1], found.relevance[0], jnp.sum(found.bias)))
    assert float(dave.completeness(model, PICTURE, 3, name)) == pytest.approx(abs(float(lacks)) / largest, rel=1e-9, abs=1e-12)
    assert float(found.relevance[-1]) == pytest.approx(float(model.logits(PICTURE[None])[0, 3]), rel=1e-12)


def test_relevance_is_that_of_the_rest_of_the_network(x64):
    """R_l once more, without probes: the blocks after state l as a function of the tokens; and the biases' terms as plain gradients."""
    model, rules = double(num_registers=1, layer_scale=True), resolve("gim")
    vit = model.forward

    def rest(params, tokens, start):
        for block in range(start, 2):
            tokens, _ = vit.block(jax.tree.map(lambda leaf: leaf[block], params["blocks"]), tokens, rules)  # noqa: B023
        return vit.head(params, tokens, rules)[0][3]

    @jax.jit
    def twin(params):
        tokens, relevance = vit.embed(params, jnp.asarray(PICTURE), rules)[0], []
        for state in range(3):
            relevance.append(jnp.vdot(tokens, jax.grad(rest, argnums=1)(params, tokens, state)))
            if state < 2:
                tokens, _ = vit.block(jax.tree.map(lambda leaf, state=state: leaf[state], params["blocks"]), tokens, rules)
        gradients = jax.grad(lambda params: vit(params, jnp.asarray(PICTURE), rules)[3])(params)
        return jnp.stack(relevance), jax.tree.map(jnp.multiply, gradients, params)

    relevance, terms = twin(model.params)
    found = dave.conservation(model, PICTURE, 3, "gim")
    assert np.allclose(found.relevance[1:-1], relevance, rtol=0, atol=1e-12)
    steps = np.zeros(4)
    for path, term in jax.tree_util.tree_leaves_with_path(terms):
        keys = [part.key for part in path]
        if keys[-1] in BIAS_LIKE and keys[0] == "blocks":
            steps[1:3] += np.asarray(term).reshape(2, -1).sum(1)
        elif keys[-1] in BIAS_LIKE:
            steps[3 if keys[0] in ("final_norm", "head") else 0] += np.asarray(term).sum()
    assert np.allclose(found.bias, steps, rtol=0, atol=1e-12)


def test_a_cotangent_is_a_target(x64):
    model = double()
    contrast = np.array([0.0, 1.0, -1.0, 0.0, 0.0])
    one, two, both = (dave.conservation(model, PICTURE, target) for target in (1, 2, contrast))
    assert np.allclose(both.relevance, one.relevance - two.relevance, rtol=0, atol=1e-12)
    assert np.allclose(both.bias, one.bias - two.bias, rtol=0, atol=1e-12)


def test_other_models_have_one_step():
    def affine(params, image, decomposition):
        return jnp.stack([jnp.sum(image) + params["bias"], jnp.sum(image**2)])

    model = Model({"bias": jnp.array(0.5)}, affine, preprocessing=Preprocessing(image_size=(4, 4)))
    found = dave.conservation(model, jnp.ones((4, 4, 3)), 0)
    assert found.states == ("image", "logit") and found.relevance.tolist() == [48.0, 48.5]
    assert found.bias.tolist() == [0.5] and found.residual.tolist() == [0.0] and float(found.relative) == 0.0
    assert dave.conservation(model, jnp.ones((4, 4, 3)), 1).residual.tolist() == [-48.0]  # <x, 2 x> is twice the logit


def test_the_table():
    found = dave.Conservation("mine", ("image", "tokens 0", "logit"), jnp.array([1.0, 1.5, 3.0]), jnp.array([0.5, 1.0]))
    lines = [line.split() for line in str(found).splitlines()]
    assert lines[0] == ["mine", "relevance", "+", "bias", "+", "residual"]
    assert lines[1:] == [["image", "1", "0.5", "0"], ["tokens", "0", "1.5", "1", "0.5"], ["logit", "3"]]
    assert float(found.relative) == pytest.approx(0.5 / 3.0)


def test_of_a_head_on_several_blocks_the_image_and_the_logit(x64):
    """What it reads of an earlier block does not pass the later ones."""
    found = dave.conservation(double(depth=3, pooled_blocks=2), PICTURE, 3)
    assert found.states == ("image", "logit") and float(jnp.abs(found.residual).max()) < 1e-12
