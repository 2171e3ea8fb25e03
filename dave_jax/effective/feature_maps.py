"""The layers of a convolutional network on feature maps (h, w, channels), each returning its output and the linear operator that made it.

As in `layers`, `output = operator(x) + offset`, and values never depend on the decomposition. Convolutions are products with weights (the
sites `linear` and `embedding`), batch norm in inference is a constant, max pooling keeps its own derivative, and ConvNeXt V2's response
norm is a normalisation; attention over channels is a gate.

Example:
    >>> from dave_jax.effective.decomposition import effective
    >>> params = {"kernel": jnp.ones((3, 3, 2, 4)), "bias": jnp.ones(4)}
    >>> output, op = convolution(params, jnp.ones((8, 6, 2)), effective, stride=2, padding=1)
    >>> output.shape, output[1, 1, 0].item()
    ((4, 3, 4), 19.0)
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective import layers
from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.operators import Chain, Dense, Diagonal, Identity, Operator, Sum
from dave_jax.effective.precision import narrow, wide
from dave_jax.effective.tokens import Average, Rearrange
from dave_jax.effective.windows import AveragePool, Conv, Depthwise, Pick, index_of_maximum

Params = Mapping[str, Any]
FeatureMap = Float[Array, "h w channels"]
Result = tuple[Float[Array, "..."], Operator]
Step = Callable[[Any], Result]
"""A layer with everything but its input."""


def in_turn(x: Float[Array, "..."], steps: Iterable[Step]) -> Result:
    """The layers one after the other: the last one's output, and the chain of their operators."""
    links = []
    for step in steps:
        x, op = step(x)
        links.append(op)
    return x, Chain(tuple(links))


def convolution(
    params: Params,
    x: FeatureMap,
    decomposition: Decomposition,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    site: str = "linear",
) -> Result:
    """`y = K * x + b`: operator K, offset b (absent without a bias); `kernel` (rows, columns, in / groups, out).

    A kernel of one pixel is a product with a matrix (`Dense`), one of as many groups as channels a sum of shifts (`Depthwise`). `site` is
    the rule that applies: `linear` or `embedding`.
    """
    kernel = params["kernel"]
    if kernel.shape[:2] == (1, 1) and (stride, padding, groups) == (1, 0, 1):
        op: Operator = Dense(kernel[0, 0], x.shape)
    elif groups == x.shape[-1] == kernel.shape[-1]:
        op = Depthwise(kernel, x.shape, stride, padding)
    else:
        op = Conv(kernel, x.shape, stride, padding, groups)
    op = getattr(decomposition, site)(op)
    y = op(x)
    return (y + params["bias"][None, None] if "bias" in params else y), op


def batch_norm(params: Params, x: FeatureMap, *, eps: float) -> Result:
    """`y = gamma * (x - m) / sqrt(v + eps) + beta` with running mean m and variance v: an affine map that no image changes.

    The part of beta and of m in the output are terms of their own (arXiv 1502.03167).
    """
    gain = wide(params["scale"]) * jax.lax.rsqrt(wide(params["running_variance"]) + eps)
    op = Diagonal(gain[None, None], x.shape)
    return narrow(op(wide(x)) + (wide(params["bias"]) - gain * wide(params["running_mean"]))[None, None], x), op


def deviation_norm(params: Params, x: Float[Array, "... width"], decomposition: Decomposition, *, eps: float) -> Result:
    """`y = gamma * x / sqrt(var(x) + eps)`, var with one less than the width below it: what x is divided by does not see its mean, but the
    mean stays (timm's `SimpleNorm`).
    """
    inverse = jax.lax.rsqrt(jnp.var(wide(x), axis=-1, ddof=1, keepdims=True) + eps)
    normalise = decomposition.normalisation(Diagonal(inverse, x.shape))
    scale = Diagonal(wide(params["scale"]).reshape((1,) * (x.ndim - 1) + (-1,)), x.shape)
    return narrow(scale(normalise(wide(x))), x), Chain((normalise, scale))


def response_norm(params: Params, x: FeatureMap, decomposition: Decomposition, *, eps: float = 1e-6) -> Result:
    """`y = x + gamma * n(x) * x + beta`, `n_c = |x_c| / (mean over c' of |x_c'| + eps)`, the norms over the map (arXiv 2301.00808).

    n is the operator that depends on the image: a normalisation.
    """
    squares = jnp.sum(jnp.square(wide(x)), axis=(0, 1), keepdims=True)
    size = jnp.where(squares == 0, 0.0, jnp.sqrt(jnp.where(squares == 0, 1.0, squares)))  # an empty channel has slope 0, not NaN
    ratio = size / (jnp.mean(size, axis=-1, keepdims=True) + eps)
    normalise = decomposition.normalisation(Diagonal(ratio, x.shape))
    scale = Diagonal(wide(params["scale"])[None, None], x.shape)
    op = Sum((Identity(x.shape), scale @ normalise))
    return narrow(op(wide(x)) + wide(params["bias"])[None, None], x), op


def channel_gate(params: Params, x: FeatureMap, decomposition: Decomposition) -> Result:
    """`y = sigmoid(g(m)) * x`, m the mean of each channel over the map: attention over channels.

    With `fc1` and `fc2` g is a small network, `fc2(relu(fc1(m)))` (squeeze and excitation, arXiv 1709.01507); with `conv` a convolution
    along the channels, zeros outside, `kernel` of odd length (ECA, arXiv 1910.03151). The gate is the operator.
    """
    mean, _ = global_average(x)
    if "conv" in params:
        kernel = narrow(params["conv"]["kernel"], mean)
        values = jnp.convolve(mean[0], kernel[::-1], mode="same")[None]
    else:
        hidden, _ = layers.dense(params["fc1"], mean, decomposition)
        hidden, _ = layers.activation(hidden, decomposition, name="relu")
        values, _ = layers.dense(params["fc2"], hidden, decomposition)
    op = decomposition.gate(Diagonal(jax.nn.sigmoid(values)[None], x.shape))
    return op(x), op


def max_pool(x: FeatureMap, *, window: int, stride: int, padding: int) -> Result:
    """The largest of every window: a choice of entries, whose derivative is its own under every decomposition."""
    op = Pick(index_of_maximum(x, window, stride, padding), x.shape)
    return op(x), op


def average_pool(x: FeatureMap, *, window: int) -> Result:
    """The mean over windows side by side."""
    op = AveragePool(x.shape, window)
    return op(x), op


def global_average(x: FeatureMap) -> tuple[Float[Array, "1 channels"], Operator]:
    """The mean over the map, as one token (1, channels)."""
    tokens = (x.shape[0] * x.shape[1], x.shape[2])
    flatten, average = Rearrange(x.shape, x.shape, (0, 1, 2), tokens), Average(tokens)
    return average(flatten(x)), Chain((flatten, average))
