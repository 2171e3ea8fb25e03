"""FullGrad+: input times gradient at every layer, and what the biases contribute."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.attribution.baselines.upsample import as_vit, check_kind, enlarged
from dave_jax.attribution.bias import on_patches, spread_biases
from dave_jax.attribution.method import Method, settings
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.model import Forward
from dave_jax.models.vit import Intermediates


@settings(static=("decomposition", "upsampling"))
class FullGradPlus(Method):
    """FullGrad+ (defined in LibraGrad, arXiv 2411.16760, sec. 2.1, after FullGrad, arXiv 1905.00780):

        sum over layers l of x_l * df/dx_l  +  sum over bias-like parameters b of b * df/db,

    signed, without any normalisation of a layer. The layers' inputs are the image, whose term is one of pixels (channels summed), and the
    tokens before each block; the second sum is over `BIAS_LIKE` (see `attribution.bias`), token by token where they act on tokens. Terms
    of tokens are summed over the width; those of patches are spread over the patch's pixels (divided by their number before they are
    enlarged), so that every term counts with its own total; those of other tokens and of the head have no place and are left out.

    (FullGrad itself takes absolute values and rescales each layer to [0, 1], which hides how much a layer contributes.)

    Attributes:
        decomposition: its name or itself: the derivative; `libragrad` gives Libra FullGrad+.
        upsampling: how patches become pixels: `bilinear`, `nearest` or `bicubic`.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> FullGradPlus()(model, images, [2]).shape
        (1, 16, 16)
    """

    decomposition: str | Decomposition = "gradient"
    upsampling: str = "bilinear"

    def __post_init__(self):
        check_kind(self.upsampling)

    def attribute(
        self, forward: Forward, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """Signed maps of one image."""
        vit, rules = as_vit(forward, type(self).__name__), resolve(self.decomposition)
        biases, fill = spread_biases(vit, params)

        def logits(image, biases, probe):
            probes = Intermediates(probe, None)  # pyright: ignore[reportArgumentType] attention is not probed
            return vit.intermediates(fill(biases), image, rules, probes)

        config = vit.config
        tokens = config.num_prefix + config.grid[0] * config.grid[1]
        probe = jnp.zeros((config.depth + 1, tokens, config.width), image.dtype)
        _, pull, inside = jax.vjp(logits, image, biases, probe, has_aux=True)

        def one(cotangent):
            image_gradient, bias_gradients, token_gradient = pull(cotangent)
            scores = jnp.sum((inside.tokens * token_gradient)[:-1], axis=(0, 2))[config.num_prefix :]
            scores = scores + sum(on_patches(path, bias_gradients[path] * bias, vit) for path, bias in biases.items())
            pixels = config.patch_size[0] * config.patch_size[1]
            spread = enlarged(scores, vit, self.upsampling) / pixels
            return jnp.sum(image * image_gradient, axis=-1) + spread

        return jax.lax.map(one, cotangents)  # one target after the other: gradients of all biases and tokens are large
