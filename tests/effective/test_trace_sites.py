"""Sites that a program does not name: residual sums, softmaxes; what a report counts; products of a value and what is made of it."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax.lax import stop_gradient
from trace_arrays import bias, draw, tokens, weights
from trace_attention import library_attention
from trace_normalisations import layer_norm, rms_norm

import dave_jax as dave
from dave_jax.effective.decomposition import Decomposition, freeze, resolve
from dave_jax.effective.gamma import GammaResidual
from dave_jax.effective.operators import scale_derivative
from dave_jax.effective.rules import exponentials
from dave_jax.effective.tempered import TemperedSoftmax

RESIDUAL = Decomposition("residual", normalisation=freeze, activation=freeze, attention=freeze, residual=GammaResidual(1.0))


def branch(x):
    return jax.nn.relu(x @ weights(5)) @ weights(6)


def slope(function, decomposition=None):
    function = function if decomposition is None else dave.decompose(function, decomposition)
    return jax.jit(jax.grad(lambda x: (function(x) * draw(22, 6, 8)).sum()))(tokens())


def close(found, expected, rounding=1e-12):
    return float(jnp.abs(found - expected).max()) < rounding * float(jnp.abs(expected).max())


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda x: x + branch(x), 1),
        (lambda x: branch(x) + x, 1),
        (lambda x: x.reshape(48) + branch(x).reshape(48), 1),  # in another shape
        (lambda x: jax.lax.scan(lambda x, _: (x + branch(x), None), x, None, length=3)[0], 1),  # the body once
        (lambda x: x + jax.lax.scan(lambda x, _: (branch(x), None), x, None, length=3)[0], 1),
        (lambda x: branch(x) + x @ weights(7), 0),  # neither is made of the other
        (lambda x: x + bias(), 0),
        (lambda x: layer_norm(x) + 0.5 * x.mean(0, keepdims=True), 0),
        (lambda x: x + jnp.roll(x, 1, 0), 0),  # no layer between them
    ],
)
def test_a_residual_sum_is_a_value_and_what_layers_made_of_it(function, count):
    found = dave.inspect(function, tokens(), decomposition=RESIDUAL).findings
    assert [one.site for one in found if one.kind == "rule"] == ["residual"] * count


def test_the_rule_of_residual_sums(x64):
    def by_hand(x):
        for i in (5, 6):
            x = GammaResidual(1.0)(x, jax.nn.relu(x @ weights(i)))
        return x

    def plain(x):
        for i in (5, 6):
            x = jax.nn.relu(x @ weights(i)) + x
        return x

    assert close(slope(plain, RESIDUAL), slope(by_hand))
    assert not close(slope(plain), slope(by_hand))


def tempered(scores, value):
    """An attention under `gim`: a quarter through the softmax of temperature 2, a half through the values."""
    exponentials, total = TemperedSoftmax(2.0)(scores)
    return scale_derivative(exponentials / total, 0.25) @ scale_derivative(value, 0.5)


def scores_and_values(x):
    return x @ weights(2) @ weights(3).T @ x.T / 8**0.5, x @ weights(4)


def along_the_first_axis(x):
    scores, value = scores_and_values(x)
    return jax.nn.softmax(scores.T, axis=0).T @ value


def divided_afterwards(x):
    scores, value = scores_and_values(x)
    exponentials = jnp.exp(scores - stop_gradient(jnp.max(scores, axis=1, keepdims=True)))
    return (exponentials @ value) / exponentials.sum(1, keepdims=True)


def without_a_maximum(x):
    scores, value = scores_and_values(x)
    exponentials = jnp.exp(scores)
    return exponentials / exponentials.sum(1, keepdims=True) @ value


def masked(x):
    scores, value = scores_and_values(x)
    return jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((6, 6), bool)), scores, -jnp.inf)) @ value


def masked_by_hand(x):
    scores, value = scores_and_values(x)
    return tempered(jnp.where(jnp.tril(jnp.ones((6, 6), bool)), scores, -jnp.inf), value)


def heads_by_hand(x):
    query, key, value = ((x @ weights(i)).reshape(6, 2, 4).swapaxes(0, 1) for i in (2, 3, 4))
    return tempered(query @ key.swapaxes(1, 2) / 2.0, value).swapaxes(0, 1).reshape(6, 8)


@pytest.mark.parametrize(
    ("function", "by_hand"),
    [
        (along_the_first_axis, lambda x: tempered(*scores_and_values(x))),
        (without_a_maximum, lambda x: tempered(*scores_and_values(x))),
        (divided_afterwards, lambda x: tempered(*scores_and_values(x))),
        (masked, masked_by_hand),
        (library_attention, heads_by_hand),
    ],
)
def test_the_softmax_of_an_attention_has_its_rule(function, by_hand, x64):
    rounding = 1e-6 if function is library_attention else 1e-12  # JAX's softmax is in single precision
    assert close(slope(function, "gim"), slope(by_hand), rounding)
    found = dave.inspect(function, tokens(), decomposition="gim").findings
    assert [one.site for one in found if one.kind == "rule"] == ["softmax"]


@pytest.mark.parametrize(
    "softmax",
    [
        lambda scores: jax.nn.softmax(scores, where=jnp.tril(jnp.ones((6, 6), bool))),
        lambda scores: (lambda e: e / (e.sum(0, keepdims=True) + e.sum(1, keepdims=True)))(jnp.exp(scores)),
    ],
)
def test_other_forms_of_softmax_are_refused(softmax):
    with pytest.raises(ValueError, match=r"gim.*site `softmax`.*reduce_sum at .*test_trace_sites"):
        dave.decompose(lambda x: softmax(x @ weights(2) @ x.T) @ x, "gim")(tokens())


def by_exponential_features(x):
    """Linear attention: its denominator is a product with a sum of exponentials."""
    query, key = jnp.exp(layer_norm(x @ weights(2))), jnp.exp(layer_norm(x @ weights(3)))
    return query @ (key.T @ (x @ weights(4))) / (query @ key.sum(0)[:, None])


def with_one_more(x):
    exponentials = jnp.exp(x @ weights(2) @ x.T)
    return exponentials / (1.0 + exponentials.sum(1, keepdims=True)) @ x


def gated_by_logsumexp(x):
    return jax.nn.sigmoid(jax.nn.logsumexp(x @ weights(2), axis=1, keepdims=True)) * (x @ weights(3))


@pytest.mark.parametrize("function", [by_exponential_features, with_one_more, gated_by_logsumexp])
def test_a_sum_of_exponentials_that_does_more_than_divide_is_no_softmax(function):
    with pytest.raises(ValueError, match=r"gim.*site `softmax`"):
        dave.decompose(function, "gim")(tokens())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: layer_norm(jax.nn.softplus(x @ weights(2))) @ weights(3),
        lambda x: rms_norm(jnp.exp(-jnp.square(x @ weights(2)))) @ weights(3),
        lambda x: jax.nn.softmax(x @ weights(2)) @ weights(3),  # on the stream: no operator
    ],
)
def test_other_exponentials_are_none_of_its_business(function, x64):
    untempered = dataclasses.replace(resolve("gim"), name="untempered", softmax=exponentials)
    assert close(slope(function, "gim"), slope(function, untempered))
    assert not any(one.kind == "rule" for one in dave.inspect(function, tokens(), decomposition="gim").findings)


@pytest.mark.parametrize("function", [lambda x: x + branch(x), lambda x: branch(x) + x])
def test_a_rule_of_residual_sums_gets_the_branch_second(function, x64):
    kept = dataclasses.replace(RESIDUAL, residual=lambda x, branch: x + stop_gradient(branch))
    assert close(slope(function, kept), draw(22, 6, 8))


def test_a_report_counts_what_is_called_again_and_branches_once():
    report = dave.inspect(lambda x: layer_norm(layer_norm(x) @ weights(2)), tokens())
    assert len(report.findings) == 2 and report.rows()[0][-1] == "2 times"
    report = dave.inspect(lambda x: jax.lax.cond(x[0, 0] > 0, layer_norm, lambda x: layer_norm(x) + 1.0, x), tokens())
    assert len(report.findings) == 1


@pytest.mark.parametrize("gate", ["gate", "half"])
@pytest.mark.parametrize("swap", [False, True])
def test_what_is_made_of_the_stream_acts_on_it(gate, swap, x64):
    """A dynamic linear unit, `w(x)^T x` for every token, also where tokens come in another shape, after a gate."""

    def unit(x):
        x = jax.nn.sigmoid(x @ weights(7)) * (x @ weights(8))  # a stream that a gate has acted on, no layer since
        w = (x @ weights(2) @ weights(3)).reshape(12, 4)
        return jnp.einsum("ij,ij->i", *((w, x.reshape(12, 4)) if swap else (x.reshape(12, 4), w)))

    def by_hand(x):
        x = stop_gradient(jax.nn.sigmoid(x @ weights(7))) * (x @ weights(8))
        w = x @ weights(2) @ weights(3)
        products = stop_gradient(w) * x if gate == "gate" else 0.5 * (stop_gradient(w) * x + w * stop_gradient(x))
        return products.reshape(12, 4).sum(1)

    found, expected = (jax.jit(jax.jacobian(f))(tokens()) for f in (dave.decompose(unit, gate=gate), by_hand))
    assert close(found, expected)
