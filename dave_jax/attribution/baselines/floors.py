"""Maps that know nothing of the model: what every method must beat."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.attribution.baselines.scoring import Fill
from dave_jax.attribution.method import Method, settings
from dave_jax.config import Scalar
from dave_jax.models.model import Forward, Model

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""


@settings()
class RandomMap(Method):
    """Uniform noise in [0, 1), another for every target: its share in a region is the region's share of the image.

    Example:
        >>> import dave_jax as dave
        >>> RandomMap()(dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3)), [2], key=jax.random.key(0)).shape
        (1, 16, 16)
    """

    random: ClassVar[bool] = True

    def attribute(
        self, forward: Forward, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """Noise."""
        return jax.random.uniform(key, (len(cotangents), *image.shape[:2]), image.dtype)


@settings()
class EdgeMap(Method):
    """The length of the Sobel gradient of the luminance, the same for every target; the image's border is no edge.

    Attributes:
        std: of each channel, which normalisation divided by: the luminance is that of the photograph. None takes the model's.

    Example:
        >>> import dave_jax as dave
        >>> image = jnp.zeros((1, 16, 16, 3)).at[:, :, 8:].set(1.0)
        >>> EdgeMap()(dave.testing.tiny_model(), image, [2])[0, 0].nonzero()[0].tolist()
        [7, 8]
    """

    std: Fill | None = None

    def fitted(self, model: Model, image: jax.ShapeDtypeStruct, num_targets: int) -> "EdgeMap":
        """With the model's standard deviations where there are none."""
        return dataclasses.replace(self, std=model.preprocessing.std if self.std is None else self.std)

    def attribute(
        self, forward: Forward, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """Edges."""
        weights = jnp.asarray(LUMINANCE, image.dtype) * jnp.asarray(self.std, image.dtype)
        luminance = jnp.pad((image * weights[None, None]).sum(-1), 1, mode="edge")

        def smooth(lines):
            return lines[:-2] + 2.0 * lines[1:-1] + lines[2:]

        def differ(lines):
            return lines[2:] - lines[:-2]

        edges = jnp.hypot(smooth(differ(luminance.T).T), differ(smooth(luminance.T).T))
        return jnp.broadcast_to(edges[None], (len(cotangents), *edges.shape))


@settings()
class CentreMap(Method):
    """`exp(-(dx^2 + dy^2) / (2 sigma^2))`, with dx and dy from the centre as shares of the width and the height.

    Attributes:
        sigma: as a share of the image's size.

    Example:
        >>> import dave_jax as dave
        >>> heat = CentreMap()(dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3)), [2])
        >>> float(heat.max()), bool(heat[0, 8, 8] > heat[0, 8, 2])
        (1.0, True)
    """

    sigma: Scalar = 0.25

    def __post_init__(self):
        if isinstance(self.sigma, (int, float)) and not 0.0 < self.sigma < float("inf"):
            raise ValueError(f"CentreMap: sigma must be a positive share of the image's size; got {self.sigma}.")

    def attribute(
        self, forward: Forward, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """A Gaussian."""
        down, across = ((jnp.arange(size, dtype=image.dtype) - (size - 1) / 2) / (size * self.sigma) for size in image.shape[:2])
        heat = jnp.exp(-(down[:, None] ** 2 + across[None, :] ** 2) / 2)
        return jnp.broadcast_to(heat[None], (len(cotangents), *heat.shape))
