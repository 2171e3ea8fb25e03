"""Gamma rules: derivatives that favour the terms of a sum which agree with it in sign.

Where a sum `z = sum_i a_i` cancels, its gradient spreads relevance `a_i dz/da_i` of both signs that is much larger than z. With gamma > 0
every term that has the sign of z weighs `1 + gamma`, the others 1:

    w_i = 1 + gamma [a_i z > 0],    D = sum_i w_i a_i,    dz/da_i := w_i z / D,

so that relevance is conserved, `sum_i a_i dz/da_i = z`. As `|D| >= |z|` and both have one sign, `z / D` lies in [0, 1]: nothing is
divided by a small number. gamma = 0 is the gradient. Where D = 0 the gradient is kept.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective.operators import Dense, Operator, Shape, operator


@dataclasses.dataclass(frozen=True)
class GammaResidual:
    """The gamma rule at a residual sum `y = x + branch` (ResLRP: Berend, Achtibat et al., 2026).

    Their table gives the weight as w / D for relevances; for derivatives the factor y belongs to it, as gamma = 0 must give 1.

    Example:
        >>> merge = GammaResidual(1.0)
        >>> jax.grad(lambda x: merge(x, jnp.array(-1.0)))(jnp.array(3.0)).item()  # w = 2 for x, 1 for -1: 2 * 2 / (6 - 1)
        0.800000011920929
    """

    gamma: float = 1.0

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
    weights = [1.0 + gamma * (term * y > 0) for term in kept]
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
        >>> jax.grad(lambda x: op(x).sum())(jnp.array([[3.0, -1.0]])).round(2).tolist()  # 2 * 2 / (6 - 1), 1 * 2 / (6 - 1)
        [[0.800000011920929, 0.4000000059604645]]
    """

    gamma: float = 0.25

    def __call__(self, op: Operator) -> Operator:
        """The same product with weights, its derivative that of the rule."""
        if not isinstance(op, Dense):
            raise TypeError(f"GammaLinear is a rule for products with weights (Dense); got {type(op).__name__}.")
        return GammaDense(op.kernel, op.in_shape, self.gamma)


@operator(("kernel",), ("in_shape", "gamma"))
class GammaDense(Dense):
    """A product with weights whose derivative in its argument is that of the gamma rule."""

    in_shape: Shape
    gamma: float

    def __call__(self, x):
        """`x W`."""
        return _product(self.gamma, x, self.kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(gamma, x, kernel):
    return x @ kernel


def _product_forward(gamma, x, kernel):
    return x @ kernel, (x, kernel)


def _product_backward(gamma, kept, cotangent):
    x, kernel = kept
    z = x @ kernel
    # A term x_i W_ij agrees with z_j > 0 where x_i and W_ij have one sign, and with z_j < 0 where they have not.
    up, down = jnp.maximum(kernel, 0), jnp.minimum(kernel, 0)
    positive, negative = jnp.maximum(x, 0), jnp.minimum(x, 0)
    agreeing = jnp.where(z > 0, positive @ up + negative @ down, jnp.where(z < 0, positive @ down + negative @ up, 0))
    total = z + gamma * agreeing
    passed = jnp.where(total == 0, cotangent, cotangent * (z / jnp.where(total == 0, 1.0, total)))
    above, below = jnp.where(z > 0, passed, 0), jnp.where(z < 0, passed, 0)
    from_positive = above @ up.T + below @ down.T
    from_negative = above @ down.T + below @ up.T
    extra = jnp.where(x > 0, from_positive, jnp.where(x < 0, from_negative, 0))
    kernel_cotangent = jnp.tensordot(x, cotangent, (tuple(range(x.ndim - 1)),) * 2)
    return passed @ kernel.T + gamma * extra, kernel_cotangent


_product.defvjp(_product_forward, _product_backward)
