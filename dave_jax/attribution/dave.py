"""`Dave`: `explain` as a `Method`, to be compared with others."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.attribution.fit import fitted
from dave_jax.attribution.method import Method, settings
from dave_jax.attribution.neighbourhood import attribute_image
from dave_jax.attribution.postprocess import postprocess
from dave_jax.config import DaveConfig
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.model import Forward, Model


@settings(static=("decomposition", "num_samples"))
class Dave(Method):
    """DAVE, or its averaging around another decomposition: the maps of `explain` (arXiv 2602.06613).

    Attributes:
        config: settings; None takes the model's own.
        decomposition: its name or itself.
        num_samples: if not that of `config`.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> key = jax.random.key(0)
        >>> bool(jnp.array_equal(Dave()(model, images, [2], key=key), dave.explain(model, images, [2], key=key)))
        True
    """

    config: DaveConfig | None = None
    decomposition: str | Decomposition = "effective"
    num_samples: int | None = None
    random: ClassVar[bool] = True

    def fitted(self, model: Model, image: jax.ShapeDtypeStruct, num_targets: int) -> "Dave":
        """With the model's settings where there are none, and a chunk size."""
        config = self.config or model.config
        if self.num_samples is not None and self.num_samples != config.num_samples:
            config = config.with_samples(self.num_samples)
        config = fitted(config, model, resolve(self.decomposition), image, num_targets)
        return dataclasses.replace(self, config=config, num_samples=None)

    def attribute(
        self, forward: Forward, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """The aggregated attributions, channels summed."""
        assert self.config is not None  # `fitted` has filled it
        return jnp.sum(attribute_image(forward, resolve(self.decomposition), params, image, cotangents, key, self.config)[0], axis=-1)

    def heat_map(self, signed: Float[Array, "h w"]) -> Float[Array, "h w"]:
        """The authors' filters."""
        return postprocess(signed[..., None], self.config)
