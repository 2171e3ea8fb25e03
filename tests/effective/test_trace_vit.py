"""Our own vision transformer, traced from its plain forward pass: the hand-written layers are the answer."""

import jax
import jax.numpy as jnp
import pytest

import dave_jax as dave
from dave_jax.effective.decomposition import Decomposition, presets
from dave_jax.effective.gamma import GammaLinear
from dave_jax.testing import count_compilations, tiny_model

pytestmark = pytest.mark.slow

OPTIONS = {
    "plain": {},
    "swiglu, rms norm, registers, pooling": {"pooling": "map", "num_registers": 1, "norm": "rms_norm", "gated_mlp": True},
    "tanh gelu, layer scale, query norm": {"activation": "gelu_tanh", "layer_scale": True, "query_key_norm": True, "pooling": "avg"},
}


def plain(forward):
    return lambda params, image: forward(params, image, "gradient")


def slopes(model, name):
    """W_eff of the third logit, by hand and traced, for two images: compiled together, as `explain` runs them."""
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    params = jax.tree.map(lambda leaf: leaf.astype(images.dtype), model.params)
    traced = dave.decompose(plain(model.forward), name, argnum=1)

    @jax.jit
    def both(params, images):
        by_hand = lambda image: jax.grad(lambda image: model.forward(params, image, name)[2])(image)
        by_trace = lambda image: jax.grad(lambda image: traced(params, image)[2])(image)
        return jax.vmap(by_hand)(images), jax.lax.map(by_trace, images, batch_size=2)

    return both(params, images)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_same_effective_transformation(options):
    by_hand, by_trace = slopes(tiny_model(**options), "effective")
    assert float(jnp.abs(by_hand - by_trace).max()) < 1e-6 * float(jnp.abs(by_hand).max())


@pytest.mark.parametrize("options", ["swiglu, rms norm, registers, pooling", "tanh gelu, layer scale, query norm"])
@pytest.mark.parametrize("name", sorted(presets.keys() - {"gradient"}))
def test_decompositions_are_those_of_the_layers(name, options, x64):
    by_hand, by_trace = slopes(tiny_model(**OPTIONS[options]), name)
    assert float(jnp.abs(by_hand - by_trace).max()) < 1e-12 * float(jnp.abs(by_hand).max())


def test_rules_for_weights_name_the_layer():
    weights = Decomposition("gammas", linear=GammaLinear(0.5))
    with pytest.raises(ValueError, match=r"gammas.*site `linear`.*dot_general at .*test_trace_vit"):
        dave.decompose(lambda x: x @ jnp.ones((3, 2)), weights)(jnp.ones(3))


def test_the_embedding_is_not_told_apart():
    with pytest.raises(ValueError, match=r"gammas.*site `embedding`"):
        dave.decompose(lambda x: x @ jnp.ones((3, 2)), Decomposition("gammas", embedding=GammaLinear(0.5)))


def test_the_gradient_is_the_function_itself():
    assert dave.decompose(jnp.tanh, "gradient") is jnp.tanh
    assert presets["gradient"] == Decomposition("gradient")


def test_the_backward_pass_of_operators_is_gone():
    """As many floating point operations as the layers by hand, and fewer than the gradient."""
    model, image = tiny_model(), jnp.ones((16, 16, 3))
    functions = [lambda x, n=n: model.forward(model.params, x, n)[2] for n in ("effective", "gradient")]
    traced = dave.decompose(lambda x: model.forward(model.params, x, "gradient")[2])
    by_hand, gradient, by_trace = (
        jax.jit(jax.grad(function)).lower(image).compile().cost_analysis()["flops"] for function in (*functions, traced)
    )
    assert by_trace <= 1.01 * by_hand < gradient


def test_the_report():
    model = tiny_model(gated_mlp=True)
    report = dave.inspect(lambda x: model.forward(model.params, x, "gradient"), jax.random.normal(jax.random.key(1), (16, 16, 3)))
    assert {(one.kind, one.site) for one in report.findings} == {
        ("operator", "normalisation"),
        ("operator", "attention"),
        ("operator", "activation"),
        ("operator", "gate"),
        ("ambiguous", "gate"),
    } - {("operator", "activation")}  # the gate's activation is inside its operator
    assert report.residual < 1e-5 and not jnp.any(report.leak)


def test_a_model_from_a_function():
    """The same maps, settings and bias terms; another call compiles nothing."""
    model = tiny_model()
    traced = dave.Model.from_function(plain(model.forward), model.params, preprocessing=model.preprocessing, config=model.config)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    maps = [dave.explain(one, images, [0, 1], key=jax.random.key(0)) for one in (model, traced)]
    assert float(jnp.abs(maps[0] - maps[1]).max()) < 1e-5
    others = images + 1
    with count_compilations() as compiled:
        dave.explain(traced, others, [0, 1], key=jax.random.key(0))
    assert compiled == []
    assert float(dave.completeness(traced, images[0], 1)) < 1e-5
    parts, expected = (dave.bias_contributions(one, images[0], 1) for one in (traced, model))
    assert float(parts.total) == pytest.approx(float(expected.total), rel=1e-4)
    assert abs(float(parts.terms["constants"])) < 1e-5  # all have names that are known
