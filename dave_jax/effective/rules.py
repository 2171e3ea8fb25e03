"""Rules: what a decomposition may do at a site, without a change of any value.

    freeze       d(A(x) x) = A(x) dx               the operator is a constant
    Share        d(A(x) x) = a dA x + b A(x) dx    a product's derivative is shared between its factors
    exponentials                                   the plain softmax

Rules are compared when compiled code is looked up: each is a function of a module or a frozen dataclass, never a new lambda.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective.operators import Operator, Shared, scale_derivative

Rule = Callable[[Operator], Operator]
"""A change of an operator's derivative: values are kept, `rule(op)(x) == op(x)`."""

Merge = Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]
"""A residual sum: `merge(x, branch)` has the value of `x + branch`."""

Softmax = Callable[[Float[Array, "... keys"]], tuple[Float[Array, "... keys"], Float[Array, "... 1"]]]
"""From scores to weights and their sum over the keys: `weights / total` is the softmax."""


def differentiate(op: Operator) -> Operator:
    """Keep the operator's own derivative (the chain rule's operator variation)."""
    return op


def freeze(op: Operator) -> Operator:
    """Treat the operator as a constant: `d(A(x) x) = A(x) dx`."""
    return jax.lax.stop_gradient(op)


@dataclasses.dataclass(frozen=True)
class Share:
    """Share a product's derivative between its factors: `d(A(x) x) = operator * dA x + argument * A(x) dx`.

    Half and half conserves relevance in a product of two live factors, where gradient x input counts it twice (the uniform rule of
    arXiv 2402.05602, eq. 7, at products: propositions 3.2 and 3.3).

    Attributes:
        operator: the operator's share.
        argument: the share of what it acts on.
    """

    operator: float
    argument: float

    def __call__(self, op: Operator) -> Operator:
        """The same operator with the shared derivative."""
        return Shared(scale_derivative(op, self.operator), op.in_shape, self.argument)


def add(x: Float[Array, "..."], branch: Float[Array, "..."]) -> Float[Array, "..."]:
    """The plain residual sum."""
    return x + branch


def exponentials(scores: Float[Array, "... keys"]) -> tuple[Float[Array, "... keys"], Float[Array, "... 1"]]:
    """`exp(s - max s)` and its sum over the keys."""
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    return weights, jnp.sum(weights, axis=-1, keepdims=True)
