"""Half precision: what is computed in it, and what is not.

In bfloat16 the parameters and what flows between layers have 8 bits of precision and move half the bytes. Products accumulate in float32,
and norms, activations and softmax are computed in float32 and rounded once.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def wide_dtype(x: Any) -> Any:
    """The type to compute in where digits matter: float32 for half precision, else that of `x`."""
    return jnp.float32 if jnp.finfo(x.dtype).bits < 32 else x.dtype


def wide(x: Any) -> Array:
    """The same numbers in `wide_dtype`.

    Example:
        >>> wide(jnp.ones(2, jnp.bfloat16)).dtype, wide(jnp.ones(2)).dtype
        (dtype('float32'), dtype('float32'))
    """
    return jnp.asarray(x, wide_dtype(x))


def narrow(x: Array, like: Any) -> Array:
    """Rounded to the type of `like`."""
    return x.astype(like.dtype)


def cast(tree: Any, dtype: Any) -> Any:
    """Every floating-point array of a pytree in that type."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)
