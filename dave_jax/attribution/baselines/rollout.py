"""Attention rollout: attention matrices multiplied through the blocks, plain or weighted by their gradient."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.attribution.baselines.upsample import TokenMethod, check_kind
from dave_jax.attribution.baselines.walk import advance, block_index, differentiated, first_row, roll_back
from dave_jax.attribution.method import settings
from dave_jax.config import Scalar
from dave_jax.effective.decomposition import gradient
from dave_jax.models.vit import ViT

FUSIONS = {"mean": jnp.mean, "max": jnp.max, "min": jnp.min}


def discard_lowest(fused: Float[Array, "queries keys"], share: Scalar) -> Float[Array, "queries keys"]:
    """Set the lowest entries to 0: that share of all, rounded down. The class token's attention to itself (the first entry) stays.

    Example:
        >>> discard_lowest(jnp.array([[0.1, 0.4], [0.2, 0.3]]), 0.5).round(1).tolist()
        [[0.10000000149011612, 0.4000000059604645], [0.0, 0.30000001192092896]]
    """

    def discard(fused):
        count = jnp.floor(share * fused.size).astype(int)
        lowest = jnp.sort(fused.ravel())[jnp.minimum(count, fused.size - 1)]
        first = jnp.zeros_like(fused, bool).at[0, 0].set(True)
        return jnp.where((fused >= lowest) | first, fused, 0.0)

    return jax.lax.cond(share > 0, discard, lambda fused: fused, fused)  # sorting is most of the cost


def _check_discard(share: Any) -> None:
    if isinstance(share, (int, float)) and not 0.0 <= share < 1.0:
        raise ValueError(f"discard is the share of attentions that are set to 0, in [0, 1); got {share}.")


@settings(static=("head_fusion", "first_block", "upsampling"))
class Rollout(TokenMethod):
    """Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928): `A_L ... A_1`, each `A = (I + F) / its row sums`.

    F is a block's attention matrix, its heads fused. The map is the row of the class token; where tokens are averaged, the mean of their
    rows, without what stays in its token all the way (see `walk`); with attention pooling, its own fused matrix times the product. It is
    the same for every target. The paper takes the mean of the
    heads and discards nothing; the other settings are those of the implementation that is usually run on images (`vit-explain`, whose own
    default discards 0.9).

    Attributes:
        head_fusion: `mean`, `max` or `min` over the heads.
        discard: share of each F that is set to 0, its lowest entries; the class token's attention to itself is kept.
        first_block: where to begin; negative numbers count from the last block.
        upsampling: how patches become pixels: `bilinear`, `nearest` or `bicubic`.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> Rollout(discard=0.5)(model, images, [2]).shape
        (1, 16, 16)
    """

    head_fusion: Literal["mean", "max", "min"] = "mean"
    discard: Scalar = 0.0
    first_block: int = 0
    upsampling: str = "bilinear"

    def __post_init__(self):
        check_kind(self.upsampling)
        _check_discard(self.discard)
        if self.head_fusion not in FUSIONS:
            raise ValueError(f"head_fusion must be one of {list(FUSIONS)}; got {self.head_fusion!r}.")

    def scores(self, vit: ViT, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"]) -> Float[Array, "k tokens"]:
        """The row of the classified token in the product."""
        first = block_index(vit.config, self.first_block, "first_block")
        network = differentiated(vit)

        def fuse(attention):
            return discard_lowest(FUSIONS[self.head_fusion](attention, axis=0), self.discard)

        def step(tokens, block):
            tokens, attention = network.block(block, tokens, None)
            return tokens, fuse(attention)

        tokens, fused = jax.lax.scan(step, vit.embed(params, image, gradient)[0], params["blocks"])
        _, attention = network.head(params, tokens, None)
        row = first_row(vit.config, None if attention is None else fuse(attention)[None], 1, tokens.dtype)
        row, _ = jax.lax.scan(lambda row, fused: (advance(row, fused[None], normalise=True), None), row, fused[first:], reverse=True)
        return jnp.broadcast_to(row.moved, (len(cotangents), row.moved.shape[-1]))


@settings(static=("first_block", "upsampling"))
class GradientRollout(TokenMethod):
    """Rollout of attention times gradient: as `Rollout`, with `F = (mean over heads of A * df/dA)^+`.

    The class-specific variant of `vit-explain` (its `grad_rollout`); the mean over the heads comes before the positive part.

    Attributes:
        discard: share of each F that is set to 0, its lowest entries; the class token's attention to itself is kept.
        first_block: where to begin; negative numbers count from the last block.
        upsampling: how patches become pixels: `bilinear`, `nearest` or `bicubic`.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> GradientRollout()(model, images, [2]).shape
        (1, 16, 16)
    """

    discard: Scalar = 0.0
    first_block: int = 0
    upsampling: str = "bilinear"

    def __post_init__(self):
        check_kind(self.upsampling)
        _check_discard(self.discard)

    def scores(self, vit: ViT, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"]) -> Float[Array, "k tokens"]:
        """The row of the classified token in the product."""

        def fuse(attention, derivative):
            fused = jnp.maximum(jnp.mean(attention[None] * derivative, axis=1), 0.0)
            return jax.lax.map(lambda one: discard_lowest(one, self.discard), fused)

        options = {"first_block": self.first_block, "normalise": True}
        return roll_back(vit, (differentiated(vit),), params, image, cotangents, fuse, **options)
