"""Gradient x input, plain or along any decomposition."""

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.attribution.method import Method, settings
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.model import Forward


@settings(static=("decomposition",))
class InputTimesGradient(Method):
    """`x * df/dx`, summed over the channels (arXiv 1605.01713).

    With another decomposition than `gradient` the derivative is that decomposition's: this is how AttnLRP, CP-LRP and the other modified
    backward passes make a map, and with `effective` it is DAVE with one sample, no transform and no noise.

    Attributes:
        decomposition: its name or itself.

    Example:
        >>> import dave_jax as dave
        >>> import jax.numpy as jnp
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> InputTimesGradient()(model, images, [2]).shape
        (1, 16, 16)
    """

    decomposition: str | Decomposition = "gradient"

    def attribute(
        self, forward: Forward, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """Signed maps of one image."""
        _, pull = jax.vjp(lambda image: forward(params, image, resolve(self.decomposition)), image)
        return jax.lax.map(lambda cotangent: (image * pull(cotangent)[0]).sum(-1), cotangents)
