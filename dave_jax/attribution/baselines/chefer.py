"""Two methods of Chefer, Gur and Wolf: attention maps weighted by gradient, block by block, with and without relevances."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.attribution.baselines.relevance import relevances
from dave_jax.attribution.baselines.upsample import TokenMethod
from dave_jax.attribution.baselines.walk import differentiated, roll_back
from dave_jax.attribution.method import settings
from dave_jax.models.vit import ViT


def _mean_positive(product: Float[Array, "k heads queries keys"]) -> Float[Array, "k queries keys"]:
    return jnp.mean(jnp.maximum(product, 0.0), axis=1)


@settings(static=("first_block", "upsampling"))
class GenericAttention(TokenMethod):
    """Generic attention explainability, GAE (arXiv 2103.15679, eqs. 5 and 6).

    `R = I`, and for each block in order `R <- R + F R` with `F = mean over heads of (A * df/dA)^+`; the map is the class token's row of R.
    Where tokens are averaged so are their rows, without the I (see `walk`); with attention pooling, its own F takes their place.

    Attributes:
        first_block: where to begin; negative numbers count from the last block.
        upsampling: how patches become pixels: `bilinear`, `nearest` or `bicubic`.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> GenericAttention()(model, images, [2]).shape
        (1, 16, 16)
    """

    first_block: int = 0
    upsampling: str = "bilinear"

    def scores(self, vit: ViT, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"]) -> Float[Array, "k tokens"]:
        """The row of the classified token in R."""

        def fuse(attention, derivative):
            return _mean_positive(attention[None] * derivative)

        return roll_back(vit, (differentiated(vit),), params, image, cotangents, fuse, first_block=self.first_block)


@settings(static=("first_block", "upsampling"))
class TransformerAttribution(TokenMethod):
    """Chefer et al.'s transformer attribution (CVPR 2021, arXiv 2012.09838, eqs. 13 and 14).

    `C = (I + F_L) ... (I + F_1)` with `F = mean over heads of (df/dA * R_A)^+`: the attention's relevance under layer-wise relevance
    propagation (see `relevance`) takes the place of the attention itself. The relevance pass starts from the target's cotangent (a one-hot
    vector for a class), and the rows of I + F are not normalised, both as in the authors' code. The map is the class token's row of C;
    other poolings as in `GenericAttention`.

    Attributes:
        first_block: where to begin; negative numbers count from the last block.
        upsampling: how patches become pixels: `bilinear`, `nearest` or `bicubic`.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> TransformerAttribution()(model, images, [2]).shape
        (1, 16, 16)
    """

    first_block: int = 0
    upsampling: str = "bilinear"

    def scores(self, vit: ViT, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"]) -> Float[Array, "k tokens"]:
        """The row of the classified token in C."""

        def fuse(attention, derivative, relevance):
            return _mean_positive(derivative * relevance)

        networks = (differentiated(vit), relevances(vit))
        return roll_back(vit, networks, params, image, cotangents, fuse, first_block=self.first_block)
