"""Grad-CAM (arXiv 1610.02391) on a vision transformer: of its tokens, or of its last attention."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.attribution.baselines.upsample import TokenMethod
from dave_jax.attribution.baselines.walk import block_index, block_probe, differentiated, head_probe, pooled_tokens, pull
from dave_jax.attribution.method import settings
from dave_jax.effective import layers
from dave_jax.effective.decomposition import gradient
from dave_jax.models.vit import ViT


@settings(static=("block", "upsampling"))
class GradCam(TokenMethod):
    """Grad-CAM of tokens: `map_p = sum_c w_c y_pc` with `w_c` the mean over the patches of `df/dy_pc`.

    The features y are the output of a block's first norm, by default the last block's: what `pytorch-grad-cam` recommends for vision
    transformers. The last block's *output* would not do: a class token alone is read from it, so that the patches' gradient is zero there.
    The derivative is that along the attention branch, for y feeds nothing else. Grad-CAM's ReLU is that of the heat map; raw maps are
    signed.

    Attributes:
        block: which block; negative numbers count from the last.
        upsampling: how patches become pixels: `bilinear`, `nearest` or `bicubic`.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> GradCam()(model, images, [2]).shape
        (1, 16, 16)
    """

    block: int = -1
    upsampling: str = "bilinear"

    def scores(self, vit: ViT, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"]) -> Float[Array, "k patches"]:
        """Scores of the patches."""
        index = block_index(vit.config, self.block, "block")
        tokens = vit.intermediates(params, image)[1].tokens[index]
        block = jax.tree.map(lambda leaf: leaf[index], params["blocks"])
        features = tokens  # what attention reads; where its norm is behind it, the tokens themselves
        if "attention_norm" in block:
            features, _ = layers.norm(block["attention_norm"], tokens, gradient, eps=vit.config.eps)
        constant = {"scale": jnp.zeros(features.shape[-1], features.dtype)}  # a norm whose output is its bias: the features themselves

        def logits(features):
            after, _ = vit.block(block | {"attention_norm": constant | {"bias": features}}, tokens, gradient)
            rest = jax.tree.map(lambda leaf: leaf[index + 1 :], params["blocks"])
            after, _ = jax.lax.scan(lambda tokens, block: (vit.block(block, tokens, gradient)[0], None), after, rest)
            return vit.head(params, after, gradient)[0]

        _, back = jax.vjp(logits, features)
        (derivative,) = jax.lax.map(back, cotangents)
        first = vit.config.num_prefix
        return jnp.mean(derivative[:, first:], axis=1) @ features[first:].T


@settings(static=("upsampling",))
class AttentionGradCam(TokenMethod):
    """Grad-CAM of the last attention: `map_p = mean over heads of A[class, p] * mean over p' of df/dA[class, p']`.

    The form in which Chefer et al. compare with Grad-CAM (arXiv 2012.09838, and their code). Where tokens are averaged, so are the rows of
    the tokens that are; with attention pooling, its own matrix is the last. Raw maps are signed.

    Attributes:
        upsampling: how patches become pixels: `bilinear`, `nearest` or `bicubic`.

    Example:
        >>> import dave_jax as dave
        >>> model, images = dave.testing.tiny_model(), jnp.ones((1, 16, 16, 3))
        >>> AttentionGradCam()(model, images, [2]).shape
        (1, 16, 16)
    """

    upsampling: str = "bilinear"

    def scores(self, vit: ViT, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"]) -> Float[Array, "k patches"]:
        """Scores of the patches."""
        config, network = vit.config, differentiated(vit)
        states = vit.intermediates(params, image)[1].tokens
        pulled = pull(network.head, params, states[-1], head_probe(config, states[-1]), cotangents)
        if config.pooling == "map":
            weights = jnp.ones(1, states.dtype)
        else:
            weights = pooled_tokens(config).astype(states.dtype)
            block = jax.tree.map(lambda leaf: leaf[-1], params["blocks"])
            pulled = pull(network.block, block, states[-2], block_probe(config, states[-2]), pulled.tokens)
        patches = config.grid[0] * config.grid[1]
        slopes = jnp.mean(pulled.derivative[..., -patches:], axis=-1)
        return jnp.einsum("q,khq,hqp->kp", weights, slopes, pulled.attention[..., -patches:]) / config.num_heads
