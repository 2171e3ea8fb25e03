"""A forward pass in half precision."""

import dataclasses
from typing import Any

from jaxtyping import Array, Float

from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.precision import cast
from dave_jax.models.model import Forward
from dave_jax.models.network import Network, in_half


@dataclasses.dataclass(frozen=True)
class InPrecision:
    """A network of ours in another floating-point type: parameters and image are rounded to it, logits come back in the image's type.

    Attributes:
        network: the forward pass of a network of ours.
        dtype: such as `bfloat16`.

    Example:
        >>> import jax.numpy as jnp
        >>> from dave_jax.testing import tiny_model
        >>> model, image = tiny_model(), jnp.ones((16, 16, 3))
        >>> half = InPrecision(model.forward, "bfloat16")(model.params, image)
        >>> half.dtype, bool(jnp.allclose(half, model.logits(image[None])[0], rtol=0.1, atol=0.1))
        (dtype('float32'), True)
    """

    network: Forward
    dtype: str

    def __call__(
        self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "gradient"
    ) -> Float[Array, " classes"]:
        """Logits of one normalised image."""
        logits = self.network(cast(params, self.dtype), image.astype(self.dtype), decomposition)
        return logits.astype(image.dtype)


def in_precision(forward: Forward, params: Any, precision: str | None) -> Forward:
    """The forward pass that computes in a type: itself, where it does so in any case.

    Args:
        forward: the forward pass; of a network of ours if the type is bfloat16.
        params: its parameters.
        precision: `bfloat16`, or `float32`, which stands for the images' own type unless the parameters are in bfloat16.
    """
    half = isinstance(forward, Network) and in_half(params)
    return forward if half == (precision == "bfloat16") else InPrecision(forward, precision or "float32")
