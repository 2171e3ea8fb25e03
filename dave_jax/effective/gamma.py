"""Gamma rules: derivatives that favour the terms of a sum which agree with it in sign.

Where a sum `z = sum_i a_i` cancels, its gradient spreads relevance `a_i dz/da_i` of both signs that is much larger than z. With gamma > 0
every term that has the sign of z weighs `1 + gamma`, the others 1:

    w_i = 1 + gamma [a_i z > 0],    D = sum_i w_i a_i,    dz/da_i := w_i z / D,

so that relevance is conserved, `sum_i a_i dz/da_i = z`. As `|D| >= |z|` and both have one sign, `z / D` lies in [0, 1]: nothing is
divided by a small number. gamma = 0 is the gradient. Where D = 0 the gradient is kept.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective.operators import Dense, Operator, Shape, operator
from dave_jax.effective.precision import narrow


def _check(rule):
    if not rule.gamma >= 0:
        raise ValueError(f"{type(rule).__name__} weighs agreeing terms by 1 + gamma, with gamma at least 0; got {rule.gamma}.")


@dataclasses.dataclass(frozen=True)
class GammaResidual:
    """The gamma rule at a residual sum `y = x + branch` (ResLRP: Berend, Achtibat et al., 2026).

    Their table gives the weight as w / D for relevances; for derivatives the factor y belongs to it, as gamma = 0 must give 1.

    Example:
        >>> merge = GammaResidual(1.0)
        >>> jax.grad(lambda x: merge(x, jnp.array(-2.0)))(jnp.array(3.0)).item()  # y = 1; w = 2 for 3, 1 for -2: 2 * 1 / (6 - 2)
        0.5
    """

    gamma: float = 1.0

    def __post_init__(self):
        _check(self)

    def __call__(self, x: Float[Array, "..."], branch: Float[Array, "..."]) -> Float[Array, "..."]:
        """`x + branch`."""
        return _merge(self.gamma, x, branch)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _merge(gamma, x, branch):
    return x + branch


def _merge_forward(gamma, x, branch):
    return x + branch, (x, branch)


def _merge_backward(gamma, kept, cotangent):
    x, branch = kept
    y = x + branch
    weights = [jnp.where(jnp.sign(term) * jnp.sign(y) > 0, 1.0 + gamma, 1.0).astype(y.dtype) for term in kept]  # term * y may underflow
    total = weights[0] * x + weights[1] * branch
    ratio = jnp.where(total == 0, 1.0, y / jnp.where(total == 0, 1.0, total))
    return tuple(cotangent * jnp.where(total == 0, 1.0, weight * ratio) for weight in weights)


_merge.defvjp(_merge_forward, _merge_backward)


@dataclasses.dataclass(frozen=True)
class GammaLinear:
    """The gamma rule at a product with weights: the terms of `z_j = sum_i x_i W_ij` (LRP-gamma, generalised to inputs of either sign).

    The bias is no term: it takes its share of the output as it does under the gradient.

    Example:
        >>> op = GammaLinear(1.0)(Dense(jnp.array([[1.0], [1.0]]), (1, 2)))
        >>> jax.grad(lambda x: op(x).sum())(jnp.array([[3.0, -2.0]])).tolist()  # z = 1: 2 * 1 / (6 - 2) and 1 * 1 / (6 - 2)
        [[0.5, 0.25]]
    """

    gamma: float = 0.25

    def __post_init__(self):
        _check(self)

    def __call__(self, op: Operator) -> Operator:
        """The same product with weights, its derivative that of the rule."""
        if not isinstance(op, Dense):
            raise TypeError(
                f"GammaLinear is a rule for products with weights (Dense); got {type(op).__name__}. Convolutions have no gamma rule: leave "
                "`linear` and `embedding` as they are."
            )
        return GammaDense(op.kernel, op.in_shape, self.gamma)


@operator(("kernel",), ("in_shape", "gamma"))
class GammaDense(Dense):
    """A product with weights whose derivative in its argument is that of the gamma rule."""

    in_shape: Shape
    gamma: float

    def __call__(self, x) -> Any:
        """`x W`."""
        return _product(self.gamma, x, narrow(self.kernel, x))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(gamma, x, kernel):
    return x @ kernel


def _product_forward(gamma, x, kernel):
    return x @ kernel, (x, kernel)


def _product_backward(gamma, kept, cotangent):
    x, kernel = kept
    z, size = x @ kernel, jnp.abs(x) @ jnp.abs(kernel)
    sign = jnp.sign(z)
    # The terms that agree with z sum to (z + sign(z) sum_i |a_i|) / 2; without one, z is 0.
    total = z + 0.5 * gamma * (z + sign * size)
    passed = jnp.where(total == 0, cotangent, cotangent * (z / jnp.where(total == 0, 1.0, total)))
    # [x_i W_ij z_j > 0] is (1 + sign(x_i) sign(W_ij) sign(z_j)) / 2 where none of them is 0.
    live = jnp.where(total == 0, 0.0, passed)
    agreeing = 0.5 * (live @ kernel.T + jnp.sign(x) * ((sign * live) @ jnp.abs(kernel).T))
    kernel_cotangent = jnp.tensordot(x, cotangent, (tuple(range(x.ndim - 1)),) * 2)
    return passed @ kernel.T + gamma * jnp.where(x == 0, 0.0, agreeing), kernel_cotangent


_product.defvjp(_product_forward, _product_backward)
