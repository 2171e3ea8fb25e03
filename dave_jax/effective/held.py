"""Frozen attention for backward passes alone: what `freeze` makes of it, passed back in a quicker way.

    y = (e v) / (e 1),    v' = e^T (y' / (e 1))    for the exponentials e of the scores and the cotangent y' of y.

JAX's own transposition multiplies `y'^T e`, for which XLA takes twice the time on a CPU. And the row sums `e 1` are taken anew in either
pass: beside the product that they divide XLA makes one program of the two, which the cores share, and a product of small matrices alone
runs on one of them.
"""

import jax
import jax.numpy as jnp

from dave_jax.effective.operators import Leaf, Mixing, Operator, Shape, operator
from dave_jax.effective.precision import narrow, wide, wide_dtype
from dave_jax.effective.rules import freeze


def hold(op: Operator) -> Operator:
    """The rule `freeze`, but attention cannot be differentiated forwards (`jax.jvp`)."""
    frozen = freeze(op)
    return HeldMixing(frozen.weights, frozen.in_shape) if isinstance(frozen, Mixing) else frozen


@operator(("weights",))
class HeldMixing(Operator):
    """A constant `Mixing`.

    Example:
        >>> held = HeldMixing(jnp.array([[[1.0, 3.0]]]), (1, 2, 1))
        >>> value, pull = jax.vjp(held, jnp.array([[[4.0], [8.0]]]))
        >>> value.tolist(), pull(jnp.ones((1, 1, 1)))[0].tolist()
        ([[[7.0]]], [[[0.25], [0.75]]])
    """

    weights: Leaf
    in_shape: Shape

    def __call__(self, x):
        return _mix(self.weights, x)

    @property
    def out_shape(self):
        return (self.in_shape[0], self.weights.shape[-2], self.in_shape[-1])

    def transpose(self):
        return Mixing(self.weights, _row_sums(self.weights), self.in_shape).transpose()


def _row_sums(weights):
    return jnp.sum(weights, axis=-1, keepdims=True, dtype=wide_dtype(weights))


@jax.custom_vjp
def _mix(weights, x):
    total = _row_sums(weights)
    return narrow(jnp.matmul(weights, x, preferred_element_type=total.dtype) / total, x)


def _forward(weights, x):
    return _mix(weights, x), weights


def _backward(weights, cotangent):
    total = _row_sums(weights)
    shares = narrow(wide(cotangent) / total, cotangent)
    return None, narrow(jnp.matmul(jnp.swapaxes(weights, -1, -2), shares, preferred_element_type=total.dtype), cotangent)


_mix.defvjp(_forward, _backward)
