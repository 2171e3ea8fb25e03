"""Integrated Gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.attribution.baselines.scoring import Fill, as_image, check_counts, check_fill, chunk_for
from dave_jax.attribution.chunk import sum_over
from dave_jax.attribution.method import Method, settings
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.model import Forward, Model


@settings(static=("num_steps", "decomposition", "chunk_size"))
class IntegratedGradients(Method):
    """`(x - b) * integral over a from 0 to 1 of grad f(b + a (x - b))`, summed over the channels (arXiv 1703.01365).

    The integral is taken by the Gauss-Legendre rule, which is exact for polynomials in a of a degree below `2 num_steps`. The map sums to
    `f(x) - f(b)` up to its error (with the ordinary gradient).

    Attributes:
        num_steps: nodes of the rule.
        baseline: b, in normalised space: a number, one number for each channel, or an image. 0 is the mean colour of the training data.
        decomposition: of the derivative, its name or itself.
        chunk_size: nodes that are computed at once; None chooses it from the device's memory.

    Example:
        >>> import dave_jax as dave
        >>> model, image = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> maps = IntegratedGradients(num_steps=16)(model, image, [2], raw=True)
        >>> change = model.logits(image)[0, 2] - model.logits(0 * image)[0, 2]
        >>> bool(abs(maps.sum() - change) < 1e-3)
        True
    """

    num_steps: int = 50
    baseline: Fill = 0.0
    decomposition: str | Decomposition = "gradient"
    chunk_size: int | None = None

    def __post_init__(self):
        check_counts(self, "num_steps")

    def fitted(self, model: Model, image: jax.ShapeDtypeStruct, num_targets: int) -> "IntegratedGradients":
        """With a chunk size."""
        check_fill("baseline", self.baseline, image.shape)
        return dataclasses.replace(
            self, chunk_size=chunk_for(self.chunk_size, model, image, num_targets, self.num_steps, self.decomposition)
        )

    def attribute(
        self, forward: Forward, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """Signed maps of one image."""
        assert self.chunk_size is not None  # `fitted` has filled it
        baseline, rules = as_image(self.baseline, image), resolve(self.decomposition)
        nodes, weights = np.polynomial.legendre.leggauss(self.num_steps)  # on [-1, 1]
        places, weights = (jnp.asarray(values / 2, image.dtype) for values in (nodes + 1, weights))

        def step(node) -> Float[Array, "k h w 3"]:
            place, weight = node
            _, pull = jax.vjp(lambda image: forward(params, image, rules), baseline + place * (image - baseline))
            return jax.lax.map(lambda cotangent: weight * pull(cotangent)[0], cotangents)

        return ((image - baseline)[None] * sum_over(step, (places, weights), self.chunk_size)).sum(-1)
