"""Derivatives that are not the primitive's own: an activation's secant, half of a product.

An elementwise function phi of the stream s is a multiplier and a constant, as `x Phi(x)` is for GELU:

    phi(s) = m(s) s + phi(0),    m(s) = (phi(s) - phi(0)) / s,

and m freezes. Near s = 0, where the quotient loses its digits, m is the derivative at s / 2, right to s^2 / 24 times phi'''.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Values = Float[Array, "..."]


@jax.custom_jvp
def attach(stream: Values, output: Values, slope: Values) -> Values:
    """`output`, whose derivative by `stream` is `slope`, and by the other two none."""
    return output


@attach.defjvp
def _attach_jvp(primals, tangents):
    _, output, slope = primals
    return output, (slope * tangents[0]).astype(output.dtype)


@jax.custom_jvp
def half(x: Values) -> Values:
    """`x` with half its derivative: of a product of two such, the derivative is shared.

    Example:
        >>> jax.grad(lambda x: half(x) * half(x))(3.0).item()
        3.0
    """
    return x


@half.defjvp
def _half_jvp(primals, tangents):
    return primals[0], 0.5 * tangents[0]


@jax.custom_jvp
def add_derivative(output: Values, constant: Values, scale: Values) -> Values:
    """`output`, whose derivative by `scale` (a number that is one) is `constant`."""
    return output


@add_derivative.defjvp
def _add_derivative_jvp(primals, tangents):
    output, constant, _ = primals
    constant = jnp.where(jnp.isfinite(constant), constant, 0)  # a mask's infinities never reach the output
    return output, tangents[0] + (constant * tangents[2].astype(constant.dtype)).astype(output.dtype)


def linearize(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """As `jax.linearize`, also of functions whose parts have only a reverse pass: the transpose of the pull-back.

    Example:
        >>> value, derivative = linearize(lambda x, y: x * y, 2.0, 3.0)
        >>> value.item(), derivative(1.0, 10.0).item()
        (6.0, 23.0)
    """
    outputs, pull = jax.vjp(function, *primals)
    transposed = jax.linear_transpose(pull, outputs)
    return outputs, lambda *tangents: transposed(tangents)[0]


def secant(function: Callable[[Values], Values], x: Values, y: Values, *, vanishing: bool) -> tuple[Values, Values]:
    """The multiplier and the constant of an elementwise function: `y = function(x) = m x + c`.

    Args:
        function: elementwise.
        x: where.
        y: `function(x)`.
        vanishing: whether `function(0) = 0` is known.

    Returns:
        m and c = function(0), of the shape of x. m is zero where it would not be finite, at the root of `sqrt`.

    Example:
        >>> multiplier, constant = secant(jax.nn.softplus, jnp.array([0.0, 2.0]), jax.nn.softplus(jnp.array([0.0, 2.0])), vanishing=False)
        >>> bool(jnp.allclose(multiplier * jnp.array([0.0, 2.0]) + constant, jax.nn.softplus(jnp.array([0.0, 2.0]))))
        True
    """
    y = y.astype(x.dtype)
    at = jnp.zeros_like(x)
    if vanishing:
        near, constant = x == 0, at
    else:
        near = jnp.abs(x) < jnp.finfo(x.dtype).eps ** (1 / 3)
        at, constant = jnp.where(near, 0.5 * x, 0), function(at).astype(x.dtype)
    slope = jax.jvp(function, (at,), (jnp.ones_like(at),))[1].astype(x.dtype)
    slope = jnp.where(near, slope, (y - constant) / jnp.where(near, 1, x))
    return jnp.where(jnp.isfinite(slope), slope, 0), constant
