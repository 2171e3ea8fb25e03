"""The forward pass of a function that nobody wrote for us: decomposed by tracing it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.trace.decompose import decompose, with_scales
from dave_jax.effective.trace.kinds import Policy
from dave_jax.effective.trace.secant import linearize


@dataclasses.dataclass(frozen=True)
class Traced:
    """A function of an image as a forward pass: hashable when the function is.

    Attributes:
        function: `function(params, image) -> logits`, or `function(image)` where the parameters are None.
        gate: which side of a product of two streams is the operator; see `decompose`.

    Example:
        >>> Traced(lambda image: jnp.tanh(image).sum((0, 1)))(None, jnp.zeros((2, 2, 3)), "effective").shape
        (3,)
    """

    function: Callable[..., Any]
    gate: Policy = "gate"

    def _of_image(self, params: Any) -> Callable[[Any], Any]:
        return self.function if params is None else lambda image: self.function(params, image)

    def __call__(
        self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "gradient"
    ) -> Float[Array, " classes"]:
        """Logits of one normalised image, in the image's type, whatever the network computes in."""
        logits = decompose(self._of_image(params), decomposition, gate=self.gate)(image)
        if jnp.ndim(logits) != 1:
            raise ValueError(
                f"The function of a model must return the logits of one image, shape (classes,); got {jnp.shape(logits)}. "
                "A network that takes batches: lambda params, image: network(params, image[None])[0]."
            )
        return jnp.asarray(logits, image.dtype)

    def constants(
        self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition
    ) -> tuple[Float[Array, " classes"], Float[Array, " classes"]]:
        """What constants add to the logits (biases, embeddings, the values of activations at zero), and what leaks into them."""
        scaled = with_scales(self._of_image(params), decomposition, gate=self.gate)
        one, zero = jnp.ones((), image.dtype), jnp.zeros((), image.dtype)
        _, derivative = linearize(lambda *scales: scaled(image, *scales), one, one)
        return derivative(one, zero).astype(image.dtype), derivative(zero, one).astype(image.dtype)
