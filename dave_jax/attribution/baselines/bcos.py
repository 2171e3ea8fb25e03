"""The explanation that a B-cos network brings with it."""

from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.attribution.method import Method, settings
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.bcos import BcosViT
from dave_jax.models.model import Forward, Model


@settings(static=("decomposition",))
class BcosInherent(Method):
    """The contributions of the six channels, summed at each pixel: `sum_c c W(x)_c`, `W(x) = df / dc` along `effective`.

    The inherent explanation of B-cos networks (arXiv 2205.10268, 2306.10898), for a `BcosViT` alone. With c = [x, 1 - x] it is

        x (W_x - W_(1-x)) + W_(1-x),

    of which the first part, without the constant, is what the method `effective` gives, and the second the contribution of the constant one
    in 1 - x, at its pixel. Signed maps sum to the logit less its bias and the part of the position embedding.

    Attributes:
        decomposition: of the derivative, its name or itself; the papers' is `effective`.

    Example:
        >>> import jax.numpy as jnp
        >>> from dave_jax.models.bcos_config import BcosViTConfig, init_params
        >>> from dave_jax.models.preprocess import Preprocessing
        >>> config = BcosViTConfig(patch_size=(4, 4), width=8, depth=2, num_heads=2, mlp_width=16, num_classes=3)
        >>> preprocessing = Preprocessing(image_size=(8, 8), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        >>> model = Model(init_params(jax.random.key(0), config), BcosViT(config), preprocessing=preprocessing)
        >>> BcosInherent()(model, jnp.full((1, 8, 8, 3), 0.3), [2]).shape
        (1, 8, 8)
    """

    decomposition: str | Decomposition = "effective"

    def fitted(self, model: Model, image: jax.ShapeDtypeStruct, num_targets: int) -> "BcosInherent":
        """Itself, if the model is a B-cos network.

        Raises:
            TypeError: it is another.
        """
        if not isinstance(model.forward, BcosViT):
            raise TypeError(
                f"BcosInherent explains B-cos networks (BcosViT), by their six input channels; {model.name!r} is a "
                f"{type(model.forward).__name__}. Load a B-cos checkpoint, or use InputTimesGradient('effective')."
            )
        return self

    def attribute(
        self, forward: Forward, params: Any, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """Signed maps of one image."""
        assert isinstance(forward, BcosViT)  # `fitted` has seen to it
        channels, _ = forward.channels(params, image)
        _, pull = jax.vjp(lambda channels: forward.on_channels(params, channels, resolve(self.decomposition))[0], channels)
        return jax.lax.map(lambda cotangent: (channels * pull(cotangent)[0]).sum(-1), cotangents)
