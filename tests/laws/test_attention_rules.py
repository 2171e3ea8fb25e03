"""The rules of attention and of products that share relevance, against slow twins written from their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from normal_arrays import normal

from dave_jax.effective import layers
from dave_jax.effective.decomposition import freeze, presets
from dave_jax.effective.operators import Dense, Diagonal, scale_derivative
from dave_jax.effective.rules import Share, exponentials
from dave_jax.effective.tempered import TemperedSoftmax

pytestmark = pytest.mark.slow


def test_tempered_softmax(x64):
    """The Jacobian of the softmax at the temperature, as a matrix and without the factor 1 / temperature."""
    scores, cotangent = 3.0 * normal(0, 2, 4, 5), normal(1, 2, 4, 5)

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
    query, key, value = normal(0, 2, 4, 3), normal(1, 2, 5, 3), normal(2, 2, 5, 3)
    temperature = 2.0 if name == "gim" else 1.0
    shares = {"gradient": (1.0, 1.0, 1.0)}.get(name, (0.25, 0.25, 0.5) if name in ("attn_lrp", "res_lrp", "gim") else (0.0, 0.0, 1.0))

    y, pull = jax.vjp(lambda q, k, v: layers.mixing(q, k, v, presets[name])[0], query, key, value)
    cotangent = normal(3, *y.shape)
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
    matrix, value = normal(0, 4, 5), normal(1, 5, 3)
    for rule, times in ((Share(0.5, 0.5), 1.0), (lambda op: op, 2.0), (freeze, 1.0)):
        y, pull = jax.vjp(lambda a, v, rule=rule: rule(Dense(v, (4, 5)))(a), matrix, value)
        cotangent = normal(2, *y.shape)
        slopes = pull(cotangent)
        relevance = jnp.vdot(matrix, slopes[0]) + jnp.vdot(value, slopes[1])
        assert jnp.allclose(relevance, times * jnp.vdot(y, cotangent), rtol=1e-12, atol=0)


@pytest.mark.parametrize("factor", [0.0, 0.1, 1 / 3, 0.7, 1.0, 3.0])
def test_scale_derivative_keeps_every_bit(factor):
    x = normal(0, 1000) * jnp.exp(10.0 * normal(1, 1000))
    value, pull = jax.vjp(lambda x: scale_derivative(x, factor), x)
    assert jnp.array_equal(value, x)
    assert jnp.array_equal(pull(jnp.ones(1000))[0], jnp.full(1000, factor))
    op = Share(factor, factor)(Diagonal(x, (1000,)))
    assert jnp.array_equal(op(x), x * x)
