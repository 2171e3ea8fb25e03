"""SmoothGrad."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.attribution.baselines.scoring import check_counts, chunk_for
from dave_jax.attribution.chunk import sum_over
from dave_jax.attribution.method import Method, settings
from dave_jax.config import Scalar
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.model import Forward, Model
from dave_jax.sampling.noise import standard_normal

KINDS = ("times_input", "gradient", "magnitude", "square")


@settings(static=("num_samples", "kind", "decomposition", "chunk_size"))
class SmoothGrad(Method):
    """Gradients averaged over noisy copies of the image (arXiv 1706.03825).

    With `g_i = grad f(x + sigma (max x - min x) eps_i)`, `eps_i ~ N(0, I)`, the map is the sum over the channels of

        times_input   x * mean_i g_i          signed, in units of the target
        gradient      mean_i g_i              signed
        magnitude     |mean_i g_i|
        square        mean_i g_i^2

    Sample i draws the noise that sample i of `explain` draws from the same key with the independent sampler.

    Attributes:
        num_samples: noisy copies.
        sigma: standard deviation of the noise, as a share of the range of the image's values.
        kind: one of those above.
        decomposition: of the derivative, its name or itself.
        chunk_size: copies that are computed at once; None chooses it from the device's memory.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
        >>> SmoothGrad(num_samples=4)(model, images, [2], key=jax.random.key(1)).shape
        (1, 16, 16)
    """

    num_samples: int = 50
    sigma: Scalar = 0.15
    kind: Literal["times_input", "gradient", "magnitude", "square"] = "times_input"
    decomposition: str | Decomposition = "gradient"
    chunk_size: int | None = None
    random: ClassVar[bool] = True

    def __post_init__(self):
        check_counts(self, "num_samples")
        if self.kind not in KINDS:
            raise ValueError(f"SmoothGrad: kind must be one of {list(KINDS)}; got {self.kind!r}.")
        if isinstance(self.sigma, (int, float)) and not 0.0 <= self.sigma < float("inf"):
            raise ValueError(f"SmoothGrad: sigma must be a share of the image's range, at least 0 (usually 0.1 to 0.2); got {self.sigma}.")

    def fitted(self, model: Model, image: jax.ShapeDtypeStruct, num_targets: int) -> "SmoothGrad":
        """With a chunk size."""
        return dataclasses.replace(
            self, chunk_size=chunk_for(self.chunk_size, model, image, num_targets, self.num_samples, self.decomposition)
        )

    def attribute(
        self, forward: Forward, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """Signed maps of one image; without a sign for `magnitude` and `square`."""
        assert self.chunk_size is not None  # `fitted` has filled it
        rules, sigma = resolve(self.decomposition), self.sigma * (image.max() - image.min())

        def sample(i) -> Float[Array, "k h w 3"]:
            _, noise_key = jax.random.split(jax.random.fold_in(key, i))  # as in `explain`
            noise = standard_normal(noise_key, image.shape, image.dtype)
            _, pull = jax.vjp(lambda image: forward(params, image, rules), image + sigma * noise)
            gradients = jax.lax.map(lambda cotangent: pull(cotangent)[0], cotangents)
            return gradients**2 if self.kind == "square" else gradients

        mean = sum_over(sample, jnp.arange(self.num_samples), self.chunk_size) / self.num_samples
        if self.kind == "times_input":
            mean = image[None] * mean
        elif self.kind == "magnitude":
            mean = jnp.abs(mean)
        return mean.sum(-1)
