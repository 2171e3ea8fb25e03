"""LeGrad: the positive gradient of every block's own score with respect to that block's attention."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.attribution.baselines.upsample import TokenMethod, check_kind
from dave_jax.attribution.baselines.walk import block_index, block_probe, differentiated, head_probe, pull
from dave_jax.attribution.method import settings
from dave_jax.models.vit import ViT


@settings(static=("first_block", "pooling", "upsampling"))
class LeGrad(TokenMethod):
    """LeGrad (Bousselham et al., ICCV 2025, arXiv 2404.03214).

    The head reads the tokens Z_l after each block as if it were the last, `s_l = head(norm(pool(Z_l)))[target]`, and

        map = sum over l of mean over heads and queries of (ds_l / dA_l)^+,   its columns that belong to patches.

    Only block l is differentiated for s_l. With attention pooling A_l is the pool's matrix when it reads Z_l, as in the authors' code. The
    paper sums over all blocks; the authors' code takes the last two unless told otherwise (`first_block=-2`). Both average all tokens,
    class token included, before the head: a class token alone would leave every other query without a gradient.

    Attributes:
        first_block: of the blocks that are summed; negative numbers count from the last block.
        pooling: `average` of all tokens, or the `model`'s own. Attention pooling is always the model's.
        upsampling: how patches become pixels: `bilinear`, `nearest` or `bicubic`.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> LeGrad(first_block=-1)(model, images, [2]).shape
        (1, 16, 16)
    """

    first_block: int = 0
    pooling: Literal["average", "model"] = "average"
    upsampling: str = "bilinear"

    def __post_init__(self):
        check_kind(self.upsampling)
        if self.pooling not in ("average", "model"):
            raise ValueError(f"pooling must be 'average' or 'model'; got {self.pooling!r}.")

    def scores(self, vit: ViT, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"]) -> Float[Array, "k patches"]:
        """Summed positive gradients of the columns of patches."""
        config, network = vit.config, differentiated(vit)
        first = block_index(config, self.first_block, "first_block")
        states = vit.intermediates(params, image)[1].tokens

        def score(block, before, probe):
            tokens, attention = network.block(block, before, probe)
            if self.pooling == "average":  # where all tokens are their average, so is what any pooling takes from them
                tokens = jnp.broadcast_to(jnp.mean(tokens, axis=0, keepdims=True), tokens.shape)
            return network.head(params, tokens, None)[0], attention

        def add(total, job):
            block, before, after = job
            if config.pooling == "map":
                pulled = pull(network.head, params, after, head_probe(config, after), cotangents)
            else:
                pulled = pull(score, block, before, block_probe(config, before), cotangents)
            return total + jnp.mean(jnp.maximum(pulled.derivative[..., -patches:], 0.0), axis=(1, 2)), None

        patches = config.grid[0] * config.grid[1]
        blocks = jax.tree.map(lambda leaf: leaf[first:], params["blocks"])
        total = jnp.zeros((len(cotangents), patches), states.dtype)
        total, _ = jax.lax.scan(add, total, (blocks, states[first:-1], states[first + 1 :]))
        return total
