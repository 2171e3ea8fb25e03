"""`decompose` on functions as people write them: the same values, complete, and by hand where the answer is known."""

import inspect

import jax
import jax.numpy as jnp
import pytest
from jax.lax import stop_gradient
from trace_activations import ACTIVATIONS, bilinear, swiglu
from trace_arrays import bias, draw, tokens, weights
from trace_attention import attention
from trace_control_flow import scanned
from trace_functions import NETWORKS
from trace_normalisations import layer_norm

import dave_jax as dave
from dave_jax.effective.trace import rules
from dave_jax.effective.trace.report import frozen


def network(function):
    """Into a layer, the function, and out to three logits."""
    return lambda x: function(x @ weights(20) + bias()).mean(0) @ draw(21, 8, 3)


CASES = ACTIVATIONS | {function.__name__: function for function in NETWORKS}


@pytest.mark.parametrize("name", CASES)
def test_values_and_completeness(name, x64):
    """To rounding, nothing leaks, and the image accounts for something."""
    function, x = network(CASES[name]), tokens()
    report = dave.inspect(function, x)
    logits = function(x)
    scale = float(jnp.abs(logits).max())
    assert float(jnp.abs(report.outputs - logits).max()) < 1e-13 * scale  # fused otherwise, no more
    assert report.residual < 1e-12
    assert float(jnp.abs(report.leak).max()) == 0
    assert float(jnp.abs(report.image).max()) > 1e-2 * scale


def by_hand_softplus(x):
    return stop_gradient((jax.nn.softplus(x) - jnp.log(2.0)) / x) * x


def by_hand_attention(x):
    q, k, v = x @ weights(2), x @ weights(3) + bias(), x @ weights(4)
    return stop_gradient(jax.nn.softmax(q @ k.T / 8**0.5)) @ v


def by_hand_layer_norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred * stop_gradient(jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)) * draw(4, 1, 8)


def by_hand_swiglu(x):
    return stop_gradient(jax.nn.silu(x @ weights(2))) * (x @ weights(3))


def by_hand_linear_attention(x):
    q, k = (stop_gradient(jax.nn.elu(x @ weights(i)) + 1) for i in (2, 3))
    return (q @ (k.T @ (x @ weights(4)))) / (q @ k.sum(0)[:, None])


def by_hand_b_cos(x):
    kernel = weights(2) / jnp.linalg.norm(weights(2), axis=0, keepdims=True)
    y = x @ kernel
    return y * stop_gradient(jnp.abs(y) / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6))


def by_hand_bilinear(x):
    a, b = x @ weights(2), x @ weights(3)
    return 0.5 * (stop_gradient(a) * b + a * stop_gradient(b))


BY_HAND = {
    "gelu": lambda x: x * stop_gradient(jax.scipy.stats.norm.cdf(x)),
    "gelu tanh": lambda x: x * stop_gradient(jax.nn.gelu(x) / x),
    "silu by hand": lambda x: x * stop_gradient(jax.nn.sigmoid(x)),
    "mish": lambda x: x * stop_gradient(jnp.tanh(jax.nn.softplus(x))),
    "squared relu": lambda x: stop_gradient(jax.nn.relu(x)) * jax.nn.relu(x),
    "tanh": lambda x: stop_gradient(jnp.tanh(x) / x) * x,
    "tanh by hand": lambda x: stop_gradient(jnp.tanh(x) / x) * x,
    "elu": lambda x: stop_gradient(jax.nn.elu(x) / x) * x,
    "softplus": by_hand_softplus,
    "softplus by hand": by_hand_softplus,
    "hard swish": lambda x: x * stop_gradient(jax.nn.hard_sigmoid(x)),
    "attention": by_hand_attention,
    "layer_norm": by_hand_layer_norm,
    "swiglu": by_hand_swiglu,
    "linear_attention": by_hand_linear_attention,
    "b_cos": by_hand_b_cos,
    "bilinear": by_hand_bilinear,
    "rms_norm": lambda x: x * stop_gradient(jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)),
    "relu": jax.nn.relu,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_gradient_is_that_of_the_function_frozen_by_hand(name, x64):
    x = tokens()
    found = jax.grad(lambda x: dave.decompose(network(CASES[name]))(x)[1])(x)
    expected = jax.grad(lambda x: network(BY_HAND[name])(x)[1])(x)
    tolerance = (1e-9 if "by hand" in name else 1e-12) * float(jnp.abs(expected).max())  # quotients lose digits near zero
    assert float(jnp.abs(found - expected).max()) < tolerance


@pytest.mark.parametrize(
    ("name", "multiplier"),
    [
        ("tanh", lambda x: 1 - x**2 / 3),
        ("elu", lambda x: 1 + min(x, 0) / 2),
        ("softplus by hand", lambda x: 0.5 + x / 8),
        ("relu ** 1.5", lambda x: max(x, 0) ** 0.5),
        ("smooth abs", lambda x: x / 2e-3**0.5 / 2**0.5),
    ],
)
def test_multipliers_near_zero(name, multiplier, x64):
    """By their series: no digits are lost, and at zero there is no quotient of zeros."""
    slope = jax.grad(dave.decompose(lambda x: CASES[name](x)[None] @ jnp.ones(1)))
    for x in (0.0, 1e-12, -1e-7, 5e-6, -7e-6, 1e-4):
        assert float(slope(x)) == pytest.approx(multiplier(x), abs=1e-8, rel=1e-4)


def test_calls_within_an_activation_keep_their_shape(x64):
    """What an activation is at zero is asked of `jax.nn.relu` too, which is compiled for all elements by now."""
    x = jax.nn.relu(tokens())
    report = dave.inspect(lambda x: jax.nn.relu(jnp.tanh(x)) ** 1.5 @ weights(2), x)
    assert [one.primitive for one in report.findings] == ["pow"] and report.residual < 1e-12
    assert float(jnp.abs(report.bias).max()) == 0


def test_a_square_root_has_no_infinite_multiplier():
    assert float(jax.grad(dave.decompose(lambda x: jnp.sqrt(jax.nn.relu(x)) + x))(0.0)) == 1.0


def test_it_is_a_function_like_any_other(x64):
    """Under jit, vmap outside, scan, and with traced parameters."""
    x = jnp.stack([tokens(), 2 * tokens()])

    def logit(scale, x):
        return network(attention)(jax.nn.gelu(scale * x))[0]

    slope = jax.grad(dave.decompose(logit, argnum=1), argnums=1)
    one_by_one = jnp.stack([slope(3.0, image) for image in x])
    for together in (
        jax.jit(jax.vmap(slope, in_axes=(None, 0)))(3.0, x),
        jax.lax.map(lambda image: slope(3.0, image), x),
        jax.jit(lambda scale: jax.lax.scan(lambda _, image: (None, slope(scale, image)), None, x)[1])(3.0),
    ):
        assert float(jnp.abs(together - one_by_one).max()) < 1e-12


def test_operators_are_constants_for_the_parameters_too(x64):
    """The derivative by a bias is its part of the logit: queries and keys have none."""
    x, zero = tokens(), jnp.zeros(8)

    def logit(biases, x):
        q, k, v = (x @ weights(i) + biases[i][None] for i in range(3))
        return (jax.nn.softmax(q @ k.T) @ v).sum()

    slopes = jax.grad(dave.decompose(logit, argnum=1))([zero, zero, zero], x)
    assert [bool(jnp.any(slope != 0)) for slope in slopes] == [False, False, True]


def test_the_affine_function_of_an_image(x64):
    x, function = tokens(), network(scanned)
    affine, report = frozen(function, x), dave.inspect(function, x)
    assert jnp.allclose(affine(x), function(x), rtol=1e-13)
    assert jnp.allclose(affine(jnp.zeros_like(x)), report.bias + report.leak, rtol=1e-10)
    assert jnp.allclose(affine(3 * x) - affine(2 * x), report.image, rtol=1e-10)


def test_images_may_be_trees_and_logits_too(x64):
    pair = {"left": tokens(), "right": tokens()[::-1]}

    def compare(pair):
        left, right = (network(swiglu)(pair[side]) for side in ("left", "right"))
        return {"both": left + right, "one": left}

    logits, along = jax.jvp(dave.decompose(compare), (pair,), (pair,))
    parts = [dave.inspect(network(swiglu), pair[side]).image for side in ("left", "right")]
    assert jnp.allclose(along["both"], parts[0] + parts[1], rtol=1e-12) and jnp.allclose(along["one"], parts[0], rtol=1e-12)
    assert jnp.array_equal(logits["one"], compare(pair)["one"])


# Ambiguous products.


@pytest.mark.parametrize(("gate", "shares"), [("half", (0.5, 0.5)), ("left", (0.0, 1.0)), ("right", (1.0, 0.0)), ("gate", (0.5, 0.5))])
def test_a_policy_resolves_bilinear_forms(gate, shares, x64):
    x = tokens()
    a, b = x @ weights(2), x @ weights(3)
    expected = shares[0] * b @ weights(2).T + shares[1] * a @ weights(3).T
    found = jax.grad(lambda x: dave.decompose(bilinear, gate=gate)(x).sum())(x)
    assert jnp.allclose(found, expected, rtol=1e-12)
    report = dave.inspect(bilinear, x, gate=gate)
    assert report.residual < 1e-12
    (note,) = [finding.note for finding in report.findings if finding.kind == "ambiguous"]
    assert note == {"left": "left is the operator (left)", "right": "right is the operator (right)"}.get(gate, "each side, half (half)")


@pytest.mark.parametrize("swap", [False, True])
def test_the_side_that_went_through_a_nonlinearity_is_the_operator(swap, x64):
    def gated(x):
        a, b = jax.nn.relu(x @ weights(2)), x @ weights(3)
        return b * a if swap else a * b

    x = tokens()
    expected = jax.nn.relu(x @ weights(2)) @ weights(3).T
    assert jnp.allclose(jax.grad(lambda x: dave.decompose(gated)(x).sum())(x), expected, rtol=1e-12)


def test_queries_times_keys_are_not_ambiguous():
    assert {finding.kind for finding in dave.inspect(attention, tokens()).findings} == {"operator"}


# Reports.


def test_a_report_names_lines_sites_and_leaks():
    def straight_through(x):
        x = attention(layer_norm(x))
        return (x + stop_gradient(jnp.round(x) - x)).sum(0)

    report = dave.inspect(straight_through, tokens())
    assert [(one.kind, one.site, one.shape) for one in report.findings] == [
        ("operator", "normalisation", (6, 1)),
        ("operator", "attention", (6, 6)),
        ("leak", "", (6, 8)),
    ]
    assert "trace_normalisations.py" in report.findings[0].where and "test_trace.py" in report.findings[2].where
    assert float(jnp.abs(report.leak).max()) > 0.01 and report.residual < 1e-5
    text, table = str(report), report._repr_html_()
    assert len(text.splitlines()) == 4 and all("residual" in page and "6x6" in page for page in (text, table))
    assert "&lt;" in dave.inspect(lambda x: jax.nn.silu(x), tokens())._repr_html_()  # <lambda>


def test_a_linear_function_has_nothing_to_report():
    assert str(dave.inspect(lambda x: 2 * x.sum(0), tokens())).startswith("linear; ")


# Refusals.


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: jax.nn.softmax(x.sum(0)), r"output is not on the stream: `exp` at .*test_trace.*Explain the logit"),
        (lambda x: jax.nn.sigmoid(x.sum(0)), r"output is not on the stream: `logistic`.*Explain the logit"),
        (lambda x: jnp.argmax(x.sum(0)), r"no derivative by the image.*Explain the logit"),
        (lambda x: {"logits": x, "label": x > 0}, r"output \['label'\] is not on the stream"),
        (lambda x: jax.nn.log_softmax(x.sum(0)), r"`log` at .*test_trace.*explain the logit"),
        (lambda x: jnp.log(x * x) @ jnp.ones((8, 2)), r"`log` at .*has no multiplier"),
        (lambda x: jnp.linalg.cholesky(x.T @ x), r"`cholesky` at .*is no function of single elements"),
        (lambda x: jnp.zeros(3), r"No output depends on the image"),
        (lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) < 9, lambda x: 2 * x, x), r"`while` at .*number of turns.*fori_loop"),
    ],
)
def test_refusals(function, message):
    with pytest.raises(ValueError, match=message):
        dave.decompose(function)(tokens())


def test_an_unknown_primitive_names_itself_and_the_remedy(monkeypatch):
    x = tokens()
    unknown = lambda x: jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    with pytest.raises(ValueError, match=r'`pure_callback` at .*test_trace.*@dave\.rule\("pure_callback"\)'):
        dave.decompose(unknown)(x)
    report = dave.inspect(lambda x: x * unknown(x), x)  # among operators it may stand
    assert report.residual < 1e-6
    monkeypatch.setitem(rules.RULES, "pure_callback", None)  # taken out again afterwards
    dave.rule("pure_callback")(lambda params, live: rules.Linear(stream=(0,)))
    assert jnp.array_equal(dave.decompose(unknown)(x), x)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="gate must be one of"):
        inspect.unwrap(dave.decompose)(jnp.sin, gate="both")  # without the tests' type checks
    with pytest.raises(ValueError, match="positional argument 1"):
        dave.decompose(jnp.sin, argnum=1)(1.0)
