"""Decompositions against each other (identities), and every rule against a slow twin written from its equation."""

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
from dave_jax.effective import layers
from dave_jax.effective.decomposition import Decomposition, attn_lrp, cp_lrp, freeze, gim, presets, res_lrp
from dave_jax.effective.gamma import GammaLinear, GammaResidual
from dave_jax.effective.operators import Dense, Diagonal, Identity, scale_derivative
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


def _normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


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


# The gamma rules.

TERMS = [
    (3.0, -1.0),
    (1.0, -3.0),
    (2.0, 5.0),
    (-2.0, -5.0),
    (0.0, 4.0),
    (-4.0, 0.0),
    (1e-30, 2e-30),
    (7.0, -7.0),
    (0.0, 0.0),
    (1.0, -0.999),
]


def gamma_weights(terms, gamma):
    """From the rule's equation: what each derivative of z = sum of the terms becomes."""
    z = sum(terms)
    weights = [1.0 + gamma if term * z > 0 else 1.0 for term in terms]
    total = sum(weight * term for weight, term in zip(weights, terms, strict=True))
    return weights if total == 0 else [weight * z / total for weight in weights]


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0, 10.0])
def test_residual_gamma(gamma, x64):
    x, branch = (jnp.array(column) for column in zip(*TERMS, strict=True))
    cotangent = _normal(0, len(TERMS))
    y, pull = jax.vjp(GammaResidual(gamma), x, branch)
    slopes = pull(cotangent)
    expected = np.array([gamma_weights(pair, gamma) for pair in TERMS]) * np.asarray(cotangent)[:, None]
    assert jnp.allclose(jnp.stack(slopes, axis=-1), expected, rtol=1e-12, atol=0)
    relevance = jnp.stack([x * slopes[0], branch * slopes[1]])
    assert jnp.allclose(relevance.sum(0), y * cotangent, rtol=0, atol=1e-12)
    if gamma:
        bound = (1.0 + 2.0 / gamma) * jnp.abs(y * cotangent)  # where the gradient has none: (7, -7) gives 14 from 0
        live = jnp.array([sum(pair) != 0 for pair in TERMS])
        assert bool((jnp.abs(relevance).sum(0) <= bound * (1 + 1e-12))[live].all())


def test_residual_gamma_where_a_product_of_terms_underflows():
    slopes = jax.grad(GammaResidual(1.0), argnums=(0, 1))(jnp.float32(3e-30), jnp.float32(-2e-30))
    assert slopes == pytest.approx([0.5, 0.25], rel=1e-6)


def linear_case():
    """Inputs of either sign with zeros and a row of them, weights with a column of zeros and one that cancels."""
    x = np.array(_normal(0, 4, 5))
    x[0, 1], x[3] = 0.0, 0.0
    kernel = np.array(_normal(1, 5, 6))
    kernel[2, 3], kernel[:, 4], kernel[:, 5] = 0.0, 0.0, 0.0
    x[1, :2], kernel[:2, 5] = (2.0, -2.0), 1.0
    return x, kernel, np.array(_normal(2, 4, 6))


@pytest.mark.parametrize("gamma", [0.0, 0.25, 100.0])
def test_linear_gamma(gamma, x64):
    x, kernel, cotangent = linear_case()
    expected = np.zeros_like(x)
    for n in range(x.shape[0]):
        for j in range(kernel.shape[1]):
            weights = gamma_weights([x[n, i] * kernel[i, j] for i in range(x.shape[1])], gamma)
            for i in range(x.shape[1]):
                expected[n, i] += weights[i] * kernel[i, j] * cotangent[n, j]
    op = GammaLinear(gamma)(Dense(jnp.asarray(kernel), x.shape))
    z, pull = jax.vjp(op, jnp.asarray(x))
    assert jnp.allclose(pull(jnp.asarray(cotangent))[0], expected, rtol=0, atol=1e-12)
    assert jnp.array_equal(z, jnp.asarray(x) @ jnp.asarray(kernel))
    jacobian = jax.jacobian(op)(jnp.asarray(x))  # conservation, output by output
    assert jnp.allclose(jnp.einsum("mjni,ni->mj", jacobian, jnp.asarray(x)), z, rtol=0, atol=1e-12)


def test_linear_gamma_within_transformations(x64):
    """vmap, scan and jit of the rule are the rule; the kernel's derivative is the plain one."""
    x, kernel, cotangent = (jnp.asarray(array) for array in linear_case())
    rule = GammaLinear(0.25)

    def pulled(rule, x, kernel, cotangent):
        return jax.vjp(lambda x, kernel: rule(Dense(kernel, x.shape))(x), x, kernel)[1](cotangent)

    slope, kernel_slope = pulled(rule, x, kernel, cotangent)
    plain_slope, plain_kernel_slope = pulled(lambda op: op, x, kernel, cotangent)
    assert jnp.allclose(kernel_slope, plain_kernel_slope, rtol=0, atol=1e-12)
    assert float(jnp.abs(slope - plain_slope).max()) > 0.1
    assert jnp.allclose(jax.jit(pulled, static_argnums=0)(rule, x, kernel, cotangent)[0], slope, rtol=0, atol=1e-12)
    rows, kernels = jax.vmap(lambda x, cotangent: pulled(rule, x, kernel, cotangent))(x, cotangent)
    assert jnp.allclose(rows, slope, rtol=0, atol=1e-12)
    assert jnp.allclose(kernels.sum(0), kernel_slope, rtol=0, atol=1e-12)

    square = _normal(5, 3, 5, 5)
    layer = lambda x, kernel: (rule(Dense(kernel, x.shape))(x), None)
    scanned = jax.grad(lambda x: jnp.sum(jax.lax.scan(layer, x, square)[0] ** 2))(x)
    unrolled = jax.grad(lambda x: jnp.sum(functools.reduce(lambda x, kernel: layer(x, kernel)[0], square, x) ** 2))(x)
    assert jnp.allclose(scanned, unrolled, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gamma_of_nothing_is_finite(precision):
    """Zero sums everywhere: a black image in a network without biases."""
    op = GammaLinear(0.25)(Dense(jnp.ones((3, 2), precision), (4, 3)))
    for x in (jnp.zeros((4, 3), precision), jnp.tile(jnp.array([1.0, -1.0, 0.0], precision), (4, 1))):
        (slope,) = jax.vjp(op, x)[1](jnp.ones((4, 2), precision))
        assert slope.dtype == precision
        assert jnp.array_equal(slope, jnp.full_like(slope, 2.0))  # the gradient
        slopes = jax.vjp(GammaResidual(1.0), x, -x)[1](jnp.ones_like(x))
        assert all(jnp.array_equal(slope, jnp.ones_like(x)) for slope in slopes)


def test_settings_of_rules_are_checked():
    for rule in (GammaLinear, GammaResidual):
        with pytest.raises(ValueError, match=f"{rule.__name__} weighs .* at least 0; got -1"):
            rule(-1.0)
    with pytest.raises(ValueError, match="temperature above 0; got 0"):
        TemperedSoftmax(0.0)
    with pytest.raises(TypeError, match=r"products with weights \(Dense\); got Identity"):
        GammaLinear(0.25)(Identity((2,)))


# Attention.


def test_tempered_softmax(x64):
    """The Jacobian of the softmax at the temperature, as a matrix and without the factor 1 / temperature."""
    scores, cotangent = 3.0 * _normal(0, 2, 4, 5), _normal(1, 2, 4, 5)

    def matrix(scores, softmax):
        weights, total = softmax(scores)
        return weights / total

    for temperature in (0.5, 1.0, 2.0):
        value, pull = jax.vjp(lambda scores, t=temperature: matrix(scores, TemperedSoftmax(t)), scores)
        assert jnp.array_equal(value, matrix(scores, exponentials))
        p = np.exp(np.asarray(scores) / temperature)
        p /= p.sum(-1, keepdims=True)
        jacobian = np.einsum("hqk,kl->hqkl", p, np.eye(5)) - np.einsum("hqk,hql->hqkl", p, p)
        expected = np.einsum("hqkl,hqk->hql", jacobian, cotangent)
        assert jnp.allclose(pull(cotangent)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gradient", "attn_lrp", "res_lrp", "gim", "effective", "cp_lrp", "libragrad"])
def test_attention_shares(name, x64):
    """q / 4, k / 4, v / 2 where products are halved, 0, 0, 1 where attention is frozen: of an attention written by hand."""
    query, key, value = _normal(0, 2, 4, 3), _normal(1, 2, 5, 3), _normal(2, 2, 5, 3)
    temperature = 2.0 if name == "gim" else 1.0
    shares = {"gradient": (1.0, 1.0, 1.0)}.get(name, (0.25, 0.25, 0.5) if name in ("attn_lrp", "res_lrp", "gim") else (0.0, 0.0, 1.0))

    y, pull = jax.vjp(lambda q, k, v: layers.mixing(q, k, v, presets[name])[0], query, key, value)
    cotangent = _normal(3, *y.shape)
    scores = np.einsum("hqc,hkc->hqk", query, key) / np.sqrt(3.0)
    matrix, p = (np.exp(scores / t) / np.exp(scores / t).sum(-1, keepdims=True) for t in (1.0, temperature))
    assert jnp.allclose(y, np.einsum("hqk,hkc->hqc", matrix, value), rtol=0, atol=1e-12)
    to_matrix = np.einsum("hqc,hkc->hqk", cotangent, value)
    to_scores = p * (to_matrix - (p * to_matrix).sum(-1, keepdims=True)) / np.sqrt(3.0)
    expected = (
        np.einsum("hqk,hkc->hqc", to_scores, key),
        np.einsum("hqk,hqc->hkc", to_scores, query),
        np.einsum("hqk,hqc->hkc", matrix, cotangent),
    )
    for slope, share, plain in zip(pull(cotangent), shares, expected, strict=True):
        assert jnp.allclose(slope, share * plain, rtol=0, atol=1e-12)


def test_halves_conserve_a_product(x64):
    """Relevance of values and matrix together is that of the output; under the gradient it is twice that."""
    matrix, value = _normal(0, 4, 5), _normal(1, 5, 3)
    for rule, times in ((Share(0.5, 0.5), 1.0), (lambda op: op, 2.0), (freeze, 1.0)):
        y, pull = jax.vjp(lambda a, v, rule=rule: rule(Dense(v, (4, 5)))(a), matrix, value)
        cotangent = _normal(2, *y.shape)
        slopes = pull(cotangent)
        relevance = jnp.vdot(matrix, slopes[0]) + jnp.vdot(value, slopes[1])
        assert jnp.allclose(relevance, times * jnp.vdot(y, cotangent), rtol=1e-12, atol=0)


@pytest.mark.parametrize("factor", [0.0, 0.1, 1 / 3, 0.7, 1.0, 3.0])
def test_scale_derivative_keeps_every_bit(factor):
    x = _normal(0, 1000) * jnp.exp(10.0 * _normal(1, 1000))
    value, pull = jax.vjp(lambda x: scale_derivative(x, factor), x)
    assert jnp.array_equal(value, x)
    assert jnp.array_equal(pull(jnp.ones(1000))[0], jnp.full(1000, factor))
    op = Share(factor, factor)(Diagonal(x, (1000,)))
    assert jnp.array_equal(op(x), x * x)


# Gates.

SLOPES = {  # of y = silu(g) h with g = 2 x + 1 and h = x: what becomes of d silu(g) / dg, and the shares of gate and argument
    "gradient": ("slope", 1.0, 1.0),
    "effective": ("multiplier", 0.0, 1.0),
    "cp_lrp": ("slope", 0.0, 1.0),
    "cp_lrp_identity": ("multiplier", 0.0, 1.0),
    "libragrad": ("multiplier", 0.5, 0.5),
    "attn_lrp": ("multiplier", 0.5, 0.5),
    "res_lrp": ("multiplier", 0.5, 0.5),
    "gim": ("slope", 0.5, 0.5),
}


@pytest.mark.parametrize("name", presets)
def test_gate(name, x64):
    kind, gate, argument = SLOPES[name]
    eye = jnp.eye(3)
    params = {"fc1": {"kernel": eye}, "gate": {"kernel": 2.0 * eye, "bias": jnp.ones(3)}, "fc2": {"kernel": eye}}
    x = _normal(0, 4, 3)
    y, pull = jax.vjp(lambda x: layers.mlp(params, x, presets[name], activation_name="silu", eps=1e-6)[0], x)
    g = 2.0 * np.asarray(x) + 1.0
    sigmoid = 1.0 / (1.0 + np.exp(-g))
    slope = sigmoid if kind == "multiplier" else sigmoid + g * sigmoid * (1.0 - sigmoid)
    expected = gate * 2.0 * slope * x + argument * g * sigmoid
    assert jnp.allclose(pull(jnp.ones_like(y))[0], expected, rtol=0, atol=1e-12)


def test_cp_lrp_differentiates_the_activation(x64):
    x = _normal(0, 4, 3)
    for name, rules in presets.items():
        pulled = jax.grad(lambda x, rules=rules: layers.activation(x, rules, name="silu")[0].sum())(x)
        expected = jax.grad(lambda x: jax.nn.silu(x).sum())(x) if name in ("gradient", "cp_lrp", "gim") else jax.nn.sigmoid(x)
        assert jnp.allclose(pulled, expected, rtol=0, atol=1e-12), name
    assert cp_lrp.gate is freeze
