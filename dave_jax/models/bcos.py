"""The B-cos vision transformer (arXiv 2306.10898), with and without a convolutional stem.

    image x -> [x, 1 - x] -> [stem] -> patches + sines and cosines -> blocks -> average -> norm -> head -> / temperature + bias -> logits

The model's image has three channels, with values in [0, 1]; the six that the network sees are an affine map of it, made here. With every
operator frozen (`effective`: cosines, 1/sigma, attention) a logit is linear in the six channels c, but for two constants, the position
embedding and the logit's bias:

    logit = <W(x), c> + terms of the constants,    W(x) = d logit / d c

and in the three, where `d logit / d x = W_x - W_(1-x)` and the constant one of 1 - x becomes a third term, <W_(1-x), 1>. All three
constants are parameters with names of bias-like ones, so that `dave.bias_contributions` tells them and `dave.completeness` counts them.

One example at a time; the blocks' parameters are stacked on a leading axis and run under `lax.scan`.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective import bcos, layers
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.effective.operators import Chain, Diagonal, Operator
from dave_jax.effective.tokens import Average, Rearrange
from dave_jax.models.bcos_config import BcosViTConfig, Params
from dave_jax.models.network import Encoded
from dave_jax.models.positions import check_tiling, sine_cosine_positions


@dataclasses.dataclass(frozen=True)
class BcosViT(Encoded):
    """The forward pass of a configuration: a hashable function of parameters and an image that the patches tile.

    Example:
        >>> from dave_jax.models.bcos_config import init_params
        >>> config = BcosViTConfig(patch_size=(4, 4), width=8, depth=2, num_heads=2, mlp_width=16, num_classes=3)
        >>> BcosViT(config)(init_params(jax.random.key(0), config), jnp.full((8, 12, 3), 0.5)).shape
        (3,)
    """

    config: BcosViTConfig

    def operators(
        self, params: Params, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "effective"
    ) -> tuple[Float[Array, " classes"], dict[str, Any]]:
        """Logits and the operators that made them.

        Returns:
            Logits, and a dict: `channels` (image to its six channels) and what `on_channels` returns.
        """
        channels, op = self.channels(params, image)
        logits, operators = self.on_channels(params, channels, decomposition)
        return logits, {"channels": op, **operators}

    def channels(self, params: Params, image: Float[Array, "h w 3"]) -> tuple[Float[Array, "h w 6"], Operator]:
        """The six channels [x, 1 - x] of an image, and the operator from it to them."""
        if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
            raise ValueError(f"The model takes images of shape (h, w, 3); got {image.shape}. Call it on one image, channels last.")
        return bcos.with_inverse(params["channels"], image)

    def on_channels(
        self, params: Params, channels: Float[Array, "h w 6"], decomposition: str | Decomposition = "effective"
    ) -> tuple[Float[Array, " classes"], dict[str, Any]]:
        """Logits of six channels, and the operators that made them.

        Returns:
            Logits, and a dict: `embedding` (channels to tokens), `blocks` (the pair of branch operators of `bcos_block`, their arrays
            stacked on a leading axis of length depth) and `head` (tokens to logits).
        """
        rules = resolve(decomposition)
        tokens, embedding = self.embed(params, channels, rules)
        step = partial(bcos.bcos_block, decomposition=rules, num_heads=self.config.num_heads, eps=self.config.eps)
        tokens, blocks = jax.lax.scan(lambda tokens, block: step(block, tokens), tokens, params["blocks"])
        logits, head = self.head(params, tokens, rules)
        return logits, {"embedding": embedding, "blocks": blocks, "head": head}

    def embed(self, params: Params, channels: Array, rules: Decomposition) -> tuple[Array, Operator]:
        """The tokens before the first block, and the operator from the six channels to them."""
        config = self.config
        x, links = channels, []
        for i, stride in enumerate(config.stem_strides, 1):
            conv, norm = params["stem"][f"conv{i}"], params["stem"][f"norm{i}"]
            x, op = bcos.bcos_convolution(conv, x, rules, stride=stride, padding=1, site="linear" if links else "embedding")
            x, normalise = bcos.map_norm(norm, x, rules, eps=config.eps)
            links += [op, normalise]
        height, width, depth = x.shape
        down, across = config.patch_size
        check_tiling((height, width), config.patch_size)
        rows, columns = height // down, width // across
        cut = Rearrange(x.shape, (rows, down, columns, across, depth), (0, 2, 1, 3, 4), (rows * columns, down * across * depth))
        tokens, project = bcos.bcos_dense(params["patch_embedding"], cut(x), rules, site="linear" if links else "embedding")
        waves = jnp.asarray(sine_cosine_positions((rows, columns), config.width), tokens.dtype)
        return tokens + params["position_embedding"][None] * waves, Chain((*links, cut, project))

    def head(self, params: Params, tokens: Array, rules: Decomposition) -> tuple[Array, Operator]:
        """The logits from the tokens after the last block, and the operator from these to them."""
        average = Average(tokens.shape)
        pooled, normalise = layers.centred_norm(params["final_norm"], average(tokens), rules, eps=self.config.eps)
        y, project = bcos.bcos_dense(params["head"], pooled, rules)
        cool = Diagonal(jnp.full((1, 1), 1 / self.config.temperature, y.dtype), y.shape)
        return cool(y)[0] + params["logits"]["bias"][None], Chain((average, normalise, project, cool))
