"""Decompositions against each other: which are one and the same, which differ, and that values depend on none."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.dave import Dave
from dave_jax.config import DaveConfig
from dave_jax.effective.decomposition import Decomposition, attn_lrp, gim, presets, res_lrp
from dave_jax.effective.gamma import GammaLinear, GammaResidual
from dave_jax.effective.rules import Share, exponentials
from dave_jax.effective.tempered import TemperedSoftmax
from dave_jax.testing import tiny_model

pytestmark = pytest.mark.slow

MODELS = {  # of one number of tokens: uncompiled operations are shared
    "plain": {"query_key_norm": True, "attention_norm": True, "layer_scale": True, "num_registers": 2, "pooling": "map"},
    "gated": {"gated_mlp": True, "activation": "silu", "norm": "rms_norm", "pooling": "avg", "num_registers": 2, "mlp_width": 32},
}
VARIANTS = {
    variant.name: variant
    for variant in (
        dataclasses.replace(attn_lrp, name="attn_lrp along the values", attention=Share(0.0, 1.0)),
        dataclasses.replace(res_lrp, name="res_lrp, gamma 0", residual=GammaResidual(0.0)),
        dataclasses.replace(attn_lrp, name="attn_lrp, linear gamma 0", linear=GammaLinear(0.0), embedding=GammaLinear(0.0)),
        dataclasses.replace(attn_lrp, name="attn_lrp, linear gamma", linear=GammaLinear(0.05), embedding=GammaLinear(0.25)),
        dataclasses.replace(gim, name="gim, temperature 1", softmax=TemperedSoftmax(1.0)),
        dataclasses.replace(gim, name="gim, plain softmax", softmax=exponentials),
        Decomposition("full shares", normalisation=Share(1.0, 1.0), attention=Share(1.0, 1.0), gate=Share(1.0, 1.0)),
        Decomposition(
            "every rule",
            normalisation=Share(0.3, 0.7),
            activation=Share(1 / 3, 0.1),
            attention=Share(0.3, 0.1),
            gate=Share(0.7, 3.0),
            linear=GammaLinear(0.05),
            embedding=GammaLinear(0.25),
            softmax=TemperedSoftmax(2.0),
            residual=GammaResidual(1.0),
        ),
    )
}
EVERY = presets | VARIANTS


def picture():
    return np.random.default_rng(0).standard_normal((16, 16, 3))


def one_by_one(vit, params, image, rules):
    """The model without `scan`: uncompiled, the small programs of its operations serve every decomposition."""
    tokens, _ = vit.embed(params, image, rules)
    for index in range(vit.config.depth):
        block = jax.tree.map(lambda leaf, index=index: leaf[index], params["blocks"])
        tokens, _ = vit.block(block, tokens, rules)
    return vit.head(params, tokens, rules)[0]


@functools.cache
def derivatives(case: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Logits, and the derivative of that of class 2 for the picture, under every decomposition."""
    with jax.enable_x64(False):
        model = tiny_model(**MODELS[case])
    results = {}
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: leaf.astype(float), model.params)
        for name, rules in EVERY.items():
            logits, pull = jax.vjp(lambda image, rules=rules: one_by_one(model.forward, params, image, rules), jnp.asarray(picture()))
            results[name] = np.asarray(logits), np.asarray(pull(jax.nn.one_hot(2, 5))[0])
    return results


def distance(case: str, first: str, second: str) -> float:
    """Between two decompositions' derivatives, relative to the largest value."""
    one, other = (derivatives(case)[name][1] for name in (first, second))
    return float(np.abs(one - other).max() / np.abs(other).max())


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("cp_lrp_identity", "effective"),
        ("attn_lrp along the values", "libragrad"),
        ("res_lrp, gamma 0", "attn_lrp"),
        ("attn_lrp, linear gamma 0", "attn_lrp"),
        ("gim, temperature 1", "gim, plain softmax"),
        ("full shares", "gradient"),
    ],
)
def test_two_names_of_one_derivative(case, first, second):
    assert distance(case, first, second) < 1e-11


@pytest.mark.parametrize("case", MODELS)
def test_libragrad_is_the_effective_transformation_but_for_gated_products(case):
    """It halves a gated product, where `effective` freezes the gate."""
    if case == "gated":
        assert distance(case, "libragrad", "effective") > 1e-3
    else:
        assert distance(case, "libragrad", "effective") < 1e-11


@pytest.mark.parametrize("case", MODELS)
def test_the_others_differ(case):
    """Or the identities above would say nothing."""
    names = ["gradient", "effective", "cp_lrp", "attn_lrp", "res_lrp", "gim", "attn_lrp, linear gamma", "gim, temperature 1", "every rule"]
    if case == "gated":  # the gate's activation lies behind the frozen gate
        names.remove("cp_lrp")
        assert distance(case, "cp_lrp", "effective") == 0.0
    for index, name in enumerate(names):
        assert all(distance(case, other, name) > 1e-5 for other in names[:index]), name


@pytest.mark.parametrize("case", MODELS)
def test_values_do_not_depend_on_the_decomposition(case):
    results = derivatives(case)
    assert [name for name, (logits, _) in results.items() if not np.array_equal(logits, results["gradient"][0])] == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_values_do_not_depend_on_the_decomposition(precision):
    """Bit for bit, in the types that models run in; and derivatives are finite."""
    model = tiny_model(**MODELS["gated"])
    params, image = jax.tree.map(lambda leaf: leaf.astype(precision), (model.params, jnp.asarray(picture(), jnp.float32)))
    logits = jax.jit(model.forward)(params, image)

    @jax.jit
    def explained(image):
        logits, pull = jax.vjp(lambda image: model.forward(params, image, EVERY["every rule"]), image)
        return logits, pull(jnp.ones_like(logits))[0]

    same, slope = explained(image)
    assert jnp.array_equal(same, logits)
    assert slope.dtype == precision
    assert bool(jnp.isfinite(slope).all()) and float(jnp.abs(slope).max()) > 0


def test_dave_without_neighbours():
    """One sample, no noise, no transform: input x effective transformation, so LibraGrad's and CP-LRP's input x gradient too."""
    model, image, key = tiny_model(**MODELS["plain"]), picture(), jax.random.key(0)
    still = DaveConfig(num_samples=1, noise_alpha=0.0, flip_probability=0.0, rotation=0.0, shift=0.0, scale_min=1.0, scale_max=1.0)
    maps = {name: np.sum(image * derivatives("plain")[name][1], axis=-1) for name in presets}
    images = image[None].astype(np.float32)
    for name, result in {
        "effective": Dave(still)(model, images, [2], key=key, raw=True)[0],
        "res_lrp": dave.explain(model, images, [2], key=key, config=still, decomposition="res_lrp", raw=True)[0].sum(-1),
        "libragrad": InputTimesGradient("libragrad")(model, images, [2], raw=True)[0],
    }.items():
        assert np.allclose(result, maps[name], rtol=0, atol=5e-6 * np.abs(maps[name]).max()), name  # float32 against float64
    for name in ("libragrad", "cp_lrp_identity"):
        assert np.allclose(maps[name], maps["effective"], rtol=0, atol=1e-12)
