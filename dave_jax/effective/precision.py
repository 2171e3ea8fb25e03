"""Half precision: what is computed in it, and what is not.

In bfloat16 the parameters and what flows between layers have 8 bits of precision and move half the bytes. Products accumulate in float32,
and norms, activations and softmax are computed in float32 and rounded once.

Or the kernels of dense layers alone are in bfloat16: `product` then rounds what they are multiplied by, and all else stays in float32.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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


def product(x: Array, kernel: Array) -> Array:
    """`x W`, W of shape (in, out), in the type of `x`.

    A kernel in bfloat16 that meets a wider `x` rounds it too: the factors of each product have 8 bits, their sum has those of `x`, and so
    has the transposed product in the backward pass. That is what the matrix units of recent CPUs multiply several times faster.

    Example:
        >>> x = jnp.array([[1.0, 2.0**-9]])
        >>> product(x, jnp.ones((2, 1))).item() - 1.0, product(1.0 + x, jnp.ones((2, 1), jnp.bfloat16)).item()
        (0.001953125, 3.0)
    """
    return _rounded_product(x, kernel) if kernel.dtype == jnp.bfloat16 != x.dtype else x @ kernel


@jax.custom_vjp  # JAX's own transpose would multiply an unrounded cotangent, in float32
def _rounded_product(x, kernel):
    return jnp.matmul(narrow(x, kernel), kernel, preferred_element_type=x.dtype)


def _forward(x, kernel):
    return _rounded_product(x.value, kernel.value), (x.value if kernel.perturbed else None, kernel.value)


def _backward(kept, cotangent):
    x, kernel = kept
    kernel_cotangent = None if x is None else narrow(jnp.einsum("...i,...o->io", x, cotangent), kernel)
    return _rounded_product(cotangent, kernel.T), kernel_cotangent


_rounded_product.defvjp(_forward, _backward, symbolic_zeros=True)


def packed(kernel: Array) -> Array:
    """A kernel in bfloat16 as integers of the same bits, which `unpacked` turns back.

    XLA on the CPU has no slices of bfloat16: where one block is taken out of a stack of all, it makes the stack float32 and the block
    bfloat16 again, in every pass. Integers it takes as they are. They have no derivative: parameters that are to be trained stay unpacked.

    Args:
        kernel: shape (..., in, out), in bfloat16.

    Example:
        >>> packed(jnp.ones((2, 3, 3), jnp.bfloat16)).dtype, unpacked(packed(jnp.ones((3, 3), jnp.bfloat16)))[0, 0]
        (dtype('uint16'), Array(1, dtype=bfloat16))
    """
    return jax.lax.bitcast_convert_type(kernel, jnp.uint16)


def unpacked(kernel: Array | np.ndarray) -> Array | np.ndarray:
    """What `packed` was given; other parameters as they are."""
    return jax.lax.bitcast_convert_type(kernel, jnp.bfloat16) if kernel.dtype == jnp.uint16 else kernel


def cast(tree: Any, dtype: Any) -> Any:
    """Every floating-point array of a pytree in that type."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)
