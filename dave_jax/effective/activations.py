"""Activations as input-dependent diagonal operators: `phi(x) = m(x) * x`, with the multiplier m in closed form.

The closed form matters: `gelu(x) / x` is 0/0 at zero and loses digits near it, while `Phi(x)` is exact everywhere.

    gelu         m(x) = Phi(x) = (1 + erf(x / sqrt 2)) / 2                        arXiv 1606.08415
    gelu_tanh    m(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2           the same paper's approximation
    quick_gelu   m(x) = sigmoid(1.702 x)                                          CLIP's
    silu         m(x) = sigmoid(x)
    relu         m(x) = [x > 0]
"""

import difflib
import math
from collections.abc import Callable

import jax
from jaxtyping import Array, Float

Values = Float[Array, "..."]


def _gelu(x: Values) -> Values:
    return 0.5 * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_tanh(x: Values) -> Values:
    return jax.nn.sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))  # (1 + tanh u) / 2 loses digits for u << 0


def _quick_gelu(x: Values) -> Values:
    return jax.nn.sigmoid(1.702 * x)


def _relu(x: Values) -> Values:
    return (x > 0).astype(x.dtype)


MULTIPLIERS: dict[str, Callable[[Values], Values]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "silu": jax.nn.sigmoid,
    "relu": _relu,
}


def multiplier(name: str) -> Callable[[Values], Values]:
    """The multiplier m of the activation `name`.

    Raises:
        ValueError: no activation of that name.

    Example:
        >>> import jax.numpy as jnp
        >>> float(multiplier("gelu")(jnp.zeros(())))
        0.5
    """
    if name not in MULTIPLIERS:
        near = difflib.get_close_matches(name, MULTIPLIERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"An activation is one of {sorted(MULTIPLIERS)}; got {name!r}.{hint}")
    return MULTIPLIERS[name]
