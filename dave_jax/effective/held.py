"""Frozen attention for backward passes alone: what `freeze` makes of it, passed back in a quicker way.

    y = (e v) / (e 1),    v' = e^T (y' / (e 1))    for the exponentials e of the scores and the cotangent y' of y.

JAX's own transposition multiplies `y'^T e`, for which XLA takes twice the time on a CPU. And the row sums `e 1` are taken anew in either
pass: beside the product that they divide XLA makes one program of the two, which the cores share, and a product of small matrices alone
runs on one of them. Half precision, which is for other devices, stays as it is.
"""

import jax
import jax.numpy as jnp

from dave_jax.effective.operators import Leaf, Mixing, Operator, Shape, operator
from dave_jax.effective.rules import freeze


def hold(op: Operator) -> Operator:
    """The rule `freeze`, but attention cannot be differentiated forwards (`jax.jvp`)."""
    frozen = freeze(op)
    if not isinstance(frozen, Mixing) or jnp.finfo(frozen.weights.dtype).bits < 32:
        return frozen
    return HeldMixing(frozen.weights, frozen.in_shape)


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
        return Mixing(self.weights, self.weights.sum(-1, keepdims=True), self.in_shape).transpose()


@jax.custom_vjp
def _mix(weights, x):
    return jnp.matmul(weights, x) / weights.sum(-1, keepdims=True)


def _forward(weights, x):
    return _mix(weights, x), weights


def _backward(weights, cotangent):
    return None, jnp.matmul(jnp.swapaxes(weights, -1, -2), cotangent / weights.sum(-1, keepdims=True))


_mix.defvjp(_forward, _backward)
