"""Every operator keeps the protocol: linear, adjoint, and equal to its matrix."""

import jax
import jax.numpy as jnp
import pytest

from dave_jax.effective import gamma, held, rotation, shifts, tokens, windows
from dave_jax.effective import operators as ops

TOKENS = (5, 6)


def _normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def _mixing():
    weights = jnp.exp(_normal(1, 2, 4, 5))
    return ops.Mixing(weights, jnp.sum(weights, -1, keepdims=True), (2, 5, 3))


OPERATORS = {
    "identity": lambda: ops.Identity(TOKENS),
    "dense": lambda: ops.Dense(_normal(0, 6, 4), TOKENS),
    "diagonal": lambda: ops.Diagonal(_normal(0, *TOKENS), TOKENS),
    "diagonal, one scale a token": lambda: ops.Diagonal(_normal(0, 5, 1), TOKENS),
    "centering": lambda: ops.Centering(TOKENS),
    "mixing": _mixing,
    "held": lambda: held.HeldMixing(jnp.exp(_normal(1, 2, 4, 5)), (2, 5, 3)),
    "shared": lambda: ops.Shared(_mixing(), (2, 5, 3), 0.25),
    "gamma": lambda: gamma.GammaDense(_normal(0, 6, 4), TOKENS, 0.25),
    "rearrange": lambda: tokens.Rearrange((4, 6), (2, 2, 3, 2), (2, 0, 3, 1), (6, 4)),
    "pad": lambda: tokens.Pad(TOKENS, 2, 1),
    "select": lambda: tokens.Select(TOKENS, 1, 4),
    "average": lambda: tokens.Average(TOKENS),
    "rotation of adjacent channels": lambda: rotation.Rotation(_normal(0, 1, 5, 3), _normal(1, 1, 5, 3), (2, 5, 6), "adjacent"),
    "rotation of halves, by head": lambda: rotation.Rotation(_normal(0, 2, 5, 3), _normal(1, 2, 5, 3), (2, 5, 6), "halves"),
    "opposite": lambda: tokens.Opposite(TOKENS),
    "convolution": lambda: windows.Conv(_normal(0, 3, 2, 2, 6), (5, 7, 4), 2, 1, 2),
    "depthwise": lambda: windows.Depthwise(_normal(0, 3, 3, 1, 4), (5, 6, 4), 2, 1),
    "average pool": lambda: windows.AveragePool((5, 6, 2), 2),
    "roll": lambda: shifts.Roll((5, 6, 2), (2, -1)),
    "extend": lambda: shifts.Extend((5, 6, 2), (6, 9)),
    "trim": lambda: shifts.Trim((5, 6, 2), (3, 6)),
    "pick": lambda: windows.Pick(jnp.arange(12).reshape(2, 3, 2) % 7, (3, 3, 2)),
    "sum": lambda: ops.Sum((ops.Identity(TOKENS), ops.Dense(_normal(0, 6, 6), TOKENS), ops.Centering(TOKENS))),
    "chain": lambda: tokens.Select((5, 4), 0, 2) @ ops.Dense(_normal(0, 6, 4), TOKENS) @ ops.Centering(TOKENS),
    "transposed": lambda: ops.Transposed(ops.Dense(_normal(0, 6, 4), TOKENS)),
}


@pytest.fixture(params=OPERATORS, ids=str)
def operator(request, x64):
    return OPERATORS[request.param]()


def test_every_class_is_here():
    covered = {type(make()) for make in OPERATORS.values()}
    named = [value for module in (ops, held, rotation, tokens, gamma, windows, shifts) for value in vars(module).values()]
    assert covered == {cls for cls in named if isinstance(cls, type) and issubclass(cls, ops.Operator) and cls is not ops.Operator}


def test_adjoint(operator):
    x, y = _normal(2, *operator.in_shape), _normal(3, *operator.out_shape)
    transpose = operator.transpose()
    assert operator(x).shape == operator.out_shape == transpose.in_shape
    assert transpose.out_shape == operator.in_shape
    assert jnp.allclose(jnp.vdot(operator(x), y), jnp.vdot(x, transpose(y)), rtol=0, atol=1e-12)
    assert jnp.allclose(transpose.transpose()(x), operator(x), rtol=0, atol=1e-12)


def test_matrix(operator):
    x = _normal(2, *operator.in_shape)
    matrix = operator.as_matrix()
    assert jnp.allclose(matrix @ x.ravel(), operator(x).ravel(), rtol=0, atol=1e-12)
    assert jnp.allclose(operator.transpose().as_matrix(), matrix.T, rtol=0, atol=1e-12)


def test_linear(operator):
    x, y = _normal(2, *operator.in_shape), _normal(3, *operator.in_shape)
    assert jnp.allclose(operator(2.0 * x - y), 2.0 * operator(x) - operator(y), rtol=0, atol=1e-12)


def test_passes_through_jit_and_vmap(operator):
    x = _normal(2, *operator.in_shape)
    assert jnp.allclose(jax.jit(lambda op, x: op(x))(operator, x), operator(x), rtol=0, atol=1e-12)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + leaf]), operator)
    results = jax.vmap(lambda op: op(x), axis_size=2)(stacked)
    assert jnp.allclose(results[0], operator(x), rtol=0, atol=1e-12)


def test_attention_matrix_rows_sum_to_one(x64):
    assert jnp.allclose(_mixing().matrix.sum(-1), 1.0, rtol=0, atol=1e-14)
