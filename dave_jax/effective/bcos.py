"""The layers of B-cos networks (arXiv 2205.10268; as transformers arXiv 2306.10898), each returning its output and its operator.

A B-cos unit multiplies the product of its input with a weight of length one by the cosine of the angle between the two,

    y = |cos(x, w)| * (w_hat . x),    w_hat = w / ||w||,    cos(x, w) = w_hat . x / ||x||        (B = 2, no MaxOut, no bias)

so that it is large only where the weight points where the input does. W_hat is a `Dense` operator (sites `linear` and `embedding`). The
cosine is a `Diagonal` under the rule of `activation`, for it is what takes an activation's place: the factor between the product w_hat . x
and the output. `effective` freezes it, which is the explanation mode of the papers; `gradient` differentiates it.

As in `layers`, values never depend on the decomposition. What is new here has no bias, so that every layer is linear but for its operator.

Example:
    >>> from dave_jax.effective.decomposition import effective
    >>> y, op = bcos_dense({"kernel": jnp.array([[5.0], [0.0]])}, jnp.array([[3.0, 4.0]]), effective)
    >>> round(y.item(), 4)  # |cos| = 3 / 5, times 3
    1.8
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.layers import centred_norm, dense, mixing, split_heads
from dave_jax.effective.operators import Centering, Chain, Dense, Diagonal, Operator
from dave_jax.effective.precision import narrow, unpacked, wide
from dave_jax.effective.tokens import Opposite, Rearrange
from dave_jax.effective.windows import Conv

Params = Mapping[str, Any]
Tokens = Float[Array, "tokens width"]
FeatureMap = Float[Array, "h w channels"]
Result = tuple[Float[Array, "..."], Operator]


def with_inverse(params: Params, image: FeatureMap) -> Result:
    """The six channels `[x, 1 - x]` of an image with values in [0, 1]: the operator x -> [x, -x] and the offset [0, 1].

    The offset is a parameter, `bias` (six numbers), so that its part in a logit can be told; `one` makes it.

    Example:
        >>> with_inverse(one(3), jnp.full((1, 1, 3), 0.25))[0].ravel().tolist()
        [0.25, 0.25, 0.25, 0.75, 0.75, 0.75]
    """
    op = Opposite(image.shape)
    return op(image) + params["bias"][None, None], op


def one(channels: int) -> dict[str, Float[Array, " both"]]:
    """The parameters of `with_inverse`: the constant one of 1 - x, behind as many zeros."""
    return {"bias": jnp.concatenate([jnp.zeros(channels), jnp.ones(channels)])}


def bcos_dense(params: Params, x: Float[Array, "... in"], decomposition: Decomposition, *, site: str = "linear") -> Result:
    """`y = |cos(x, w)| * (w_hat . x)` for every column w of `kernel` (in, out), whose length has no influence.

    `||x||` is 1e-12 more than it is, as in the authors' code. `site` is the rule of the product: `linear` or `embedding`.
    """
    kernel = unpacked(params["kernel"])
    project = getattr(decomposition, site)(Dense(narrow(_unit(wide(kernel)), kernel), x.shape))
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    length = jnp.where(squares == 0, 0.0, jnp.sqrt(jnp.where(squares == 0, 1.0, squares)))  # at 0 the slope is 0, not NaN
    return _times_cosine(project, project(x), length + 1e-12, decomposition)


def bcos_convolution(
    params: Params, x: FeatureMap, decomposition: Decomposition, *, stride: int = 1, padding: int = 0, site: str = "linear"
) -> Result:
    """`bcos_dense` of every window: `kernel` (rows, columns, in, out), a window's length is `sqrt(||x||^2 + 1e-6)`."""
    kernel = params["kernel"]
    project = getattr(decomposition, site)(Conv(_unit(kernel), x.shape, stride, padding))
    edge = ((padding, padding), (padding, padding), (0, 0))
    energy = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    squares = jax.lax.reduce_window(energy, 0.0, jax.lax.add, (*kernel.shape[:2], 1), (stride, stride, 1), edge)
    return _times_cosine(project, project(x), jnp.sqrt(squares + 1e-6), decomposition)


def _unit(kernel: Float[Array, "*window in out"]) -> Float[Array, "*window in out"]:
    """Every output's weight divided by its length; a weight of zeros stays."""
    squares = jnp.sum(jnp.square(kernel), axis=tuple(range(kernel.ndim - 1)), keepdims=True)
    return kernel * jax.lax.rsqrt(jnp.maximum(squares, jnp.finfo(kernel.dtype).tiny))


def _times_cosine(project: Operator, y: Array, length: Array, decomposition: Decomposition) -> Result:
    cosine = decomposition.activation(Diagonal(jnp.abs(y) / length, y.shape))
    return cosine(y), Chain((project, cosine))


def map_norm(params: Params, x: FeatureMap, decomposition: Decomposition, *, eps: float) -> Result:
    """`layers.centred_norm` over a whole feature map, one gain a channel: group norm of one group (arXiv 1803.08494) without a bias."""
    flatten = Rearrange(x.shape, x.shape, (0, 1, 2), (x.size,))
    centering = Centering(flatten.out_shape)
    centred = centering(flatten(wide(x)))
    inverse_sigma = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + eps)
    normalise = decomposition.normalisation(Diagonal(inverse_sigma, centred.shape))
    unflatten, scale = flatten.transpose(), Diagonal(wide(params["scale"])[None, None], x.shape)
    return narrow(scale(unflatten(normalise(centred))), x), Chain((flatten, centering, normalise, unflatten, scale))


def bcos_attention(params: Params, x: Tokens, decomposition: Decomposition, *, num_heads: int) -> Result:
    """Multi-head attention whose output is a B-cos product; `query`, `key` and `value` are plain products.

    The attention matrix is the operator, as in `layers.attention`: frozen, queries and keys are.
    """
    heads, links = {}, []
    for name in ("query", "key", "value"):
        projected, project = dense(params[name], x, decomposition)
        split = split_heads(projected.shape, num_heads)
        heads[name], links = split(projected), [project, split]
    mixed, mix = mixing(heads["query"], heads["key"], heads["value"], decomposition)
    merge = split_heads((mixed.shape[1], mixed.shape[0] * mixed.shape[2]), num_heads).transpose()
    y, project = bcos_dense(params["proj"], merge(mixed), decomposition)
    return y, Chain((*links, mix, merge, project))


def bcos_block(
    params: Params, x: Tokens, decomposition: Decomposition, *, num_heads: int, eps: float
) -> tuple[Tokens, tuple[Operator, Operator]]:
    """`x + attention(norm(x))`, then `x + fc2(fc1(norm(x)))`, with B-cos products and nothing between the last two.

    Returns the output and the operators of the two branches, as `layers.block` does.
    """
    y, normalise = centred_norm(params["attention_norm"], x, decomposition, eps=eps)
    y, op = bcos_attention(params["attention"], y, decomposition, num_heads=num_heads)
    x, first = decomposition.residual(x, y), Chain((normalise, op))
    y, normalise = centred_norm(params["mlp_norm"], x, decomposition, eps=eps)
    y, fc1 = bcos_dense(params["mlp"]["fc1"], y, decomposition)
    y, fc2 = bcos_dense(params["mlp"]["fc2"], y, decomposition)
    return decomposition.residual(x, y), (first, Chain((normalise, fc1, fc2)))
