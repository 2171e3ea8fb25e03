"""The convolutional stem of a vision transformer: 3 x 3 convolutions in place of a product with large patches (arXiv 2106.14881)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.effective import layers
from dave_jax.effective.bcos import map_norm
from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.feature_maps import Result, Step, convolution, in_turn
from dave_jax.effective.operators import Operator
from dave_jax.effective.tokens import Rearrange


def strides(widths: tuple[int, ...]) -> tuple[int, ...]:
    """The stride of each convolution: 2 where there are more channels behind it than before, from the image's three.

    Example:
        >>> strides((64, 128, 128, 256, 256, 512))
        (2, 2, 1, 2, 1, 2)
    """
    return tuple(2 if after > before else 1 for before, after in zip((3, *widths), widths, strict=False))


def embed_through_stem(
    params: Mapping[str, Any],
    image: Float[Array, "h w 3"],
    decomposition: Decomposition,
    *,
    widths: tuple[int, ...],
    activation_name: str,
    eps: float,
) -> tuple[Float[Array, "tokens width"], Operator]:
    """`E phi(N(K x))`, with as many convolutions K, norms N over the whole map and activations as there are widths; one token a place.

    Args:
        params: `stem` (`conv1`, `norm1`, ...) and `patch_embedding`, E.
        image: one image.
        decomposition: the rules; the first convolution is the embedding.
        widths: channels behind each convolution.
        activation_name: of the activations.
        eps: of the norms.
    """
    steps: list[Step] = []
    for i, stride in enumerate(strides(widths), 1):
        conv, norm = params["stem"][f"conv{i}"], params["stem"][f"norm{i}"]
        site = "embedding" if i == 1 else "linear"
        steps.append(partial(convolution, conv, decomposition=decomposition, stride=stride, padding=1, site=site))
        steps.append(partial(_norm, norm, decomposition=decomposition, eps=eps))
        steps.append(partial(layers.activation, decomposition=decomposition, name=activation_name))
    steps += [_as_tokens, partial(layers.dense, params["patch_embedding"], decomposition=decomposition)]
    return in_turn(image, steps)


def _norm(params: Mapping[str, Any], x: Float[Array, "h w channels"], decomposition: Decomposition, *, eps: float) -> Result:
    y, op = map_norm(params, x, decomposition, eps=eps)
    return y + params["bias"][None, None], op


def _as_tokens(x: Float[Array, "h w channels"]) -> Result:
    op = Rearrange(x.shape, x.shape, (0, 1, 2), (x.shape[0] * x.shape[1], x.shape[2]))
    return op(x), op


def init_stem(key: PRNGKeyArray, widths: tuple[int, ...]) -> dict[str, Any]:
    """Random parameters: normal(0, 0.02) kernels, zero biases, unit scales.

    Example:
        >>> init_stem(jax.random.key(0), (4, 8))["conv2"]["kernel"].shape
        (3, 3, 4, 8)
    """
    params: dict[str, Any] = {}
    for i, (draw, before, after) in enumerate(zip(jax.random.split(key, len(widths)), (3, *widths), widths, strict=False), 1):
        params[f"conv{i}"] = {"kernel": 0.02 * jax.random.normal(draw, (3, 3, before, after)), "bias": jnp.zeros(after)}
        params[f"norm{i}"] = {"scale": jnp.ones(after), "bias": jnp.zeros(after)}
    return params
