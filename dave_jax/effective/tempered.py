"""The tempered softmax gradient: a flatter softmax in the backward pass alone.

Where a softmax is saturated its gradient vanishes, and with it what made it so. GIM (Edin et al., 2025, arXiv 2505.17630) takes the
backward pass at a temperature tau > 1:

    p = softmax(s / tau),    ds = p * (g - <g, p>)    for the cotangent g of the attention matrix.

The factor 1 / tau of the chain rule is left out, as there.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective.rules import exponentials


@dataclasses.dataclass(frozen=True)
class TemperedSoftmax:
    """`exponentials` with the derivative of a softmax at this temperature; 1 is the plain one.

    Example:
        >>> def second(scores, softmax):
        ...     weights, total = softmax(scores)
        ...     return (weights / total)[1]
        >>> scores = jnp.array([0.0, 8.0])
        >>> bool(jax.grad(second)(scores, TemperedSoftmax(2.0))[1] > 10 * jax.grad(second)(scores, exponentials)[1])
        True
    """

    temperature: float = 2.0

    def __post_init__(self):
        if not self.temperature > 0:
            raise ValueError(f"TemperedSoftmax divides the scores by a temperature above 0; got {self.temperature}.")

    def __call__(self, scores: Float[Array, "... keys"]) -> tuple[Float[Array, "... keys"], Float[Array, "... 1"]]:
        """`exp(s - max s)` and its sum over the keys."""
        return _softmax(self.temperature, scores)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _softmax(temperature, scores):
    return exponentials(scores)


def _forward(temperature, scores):
    weights, total = exponentials(scores)
    return (weights, total), (scores, total)


def _backward(temperature, kept, cotangents):
    scores, total = kept
    # The matrix is weights / total. With g its cotangent, that of the weights is g / total; that of the total follows from it.
    matrix = cotangents[0] * total
    flat = jax.nn.softmax(scores / temperature, axis=-1)
    # A product, as XLA on the CPU (jaxlib 0.10) gets `g - sum(p g)` wrong under a `vmap` over cotangents; see `attribution.explain`.
    mean = jnp.einsum("...k,...k->...", flat, matrix, precision="highest")[..., None]
    return (flat * (matrix - mean),)


_softmax.defvjp(_forward, _backward)
