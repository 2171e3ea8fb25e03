"""The layers of a vision transformer, each returning its output and the linear operator that made it.

Every layer takes one example (tokens, width), builds its operator from it, applies the decomposition's rule, and computes

    output = operator(x) + offset

so that forward pass and operator cannot drift apart; `offset` gathers the biases. Batching is `jax.vmap` outside. Values never depend
on the decomposition: only derivatives do. Parameters are plain dicts: `kernel` (in, out), `bias`, `scale`.

Example:
    >>> import jax
    >>> from dave_jax.effective.decomposition import effective
    >>> tokens = jax.random.normal(jax.random.key(0), (5, 8))
    >>> params = {"scale": jnp.ones(8), "bias": jnp.zeros(8)}
    >>> output, op = layer_norm(params, tokens, effective, eps=1e-6)
    >>> bool(jnp.allclose(output, op(tokens) + params["bias"][None]))
    True
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective.activations import multiplier
from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.operators import Centering, Chain, Dense, Diagonal, Mixing, Operator
from dave_jax.effective.precision import narrow, unpacked, wide, wide_dtype
from dave_jax.effective.tokens import Rearrange

Params = Mapping[str, Any]
Tokens = Float[Array, "tokens width"]
Result = tuple[Float[Array, "..."], Operator]


def _row(vector: Float[Array, "*tokens width"], rank: int) -> Float[Array, "..."]:
    """The vector as an array of that rank, along the last axis; one row for each token is kept as it is."""
    return vector.reshape((1,) * (rank - vector.ndim) + vector.shape)


def dense(params: Params, x: Float[Array, "... in"], decomposition: Decomposition, *, site: str = "linear") -> Result:
    """`y = x W + b`: operator W, offset b (absent without a bias). `site` is the rule that applies: `linear` or `embedding`."""
    op = getattr(decomposition, site)(Dense(unpacked(params["kernel"]), x.shape))
    y = op(x)
    return (y + _row(params["bias"], x.ndim) if "bias" in params else y), op


def layer_norm(params: Params, x: Float[Array, "... width"], decomposition: Decomposition, *, eps: float) -> Result:
    """`y = gamma * (H x) / sigma(x) + beta`, `sigma(x) = sqrt(mean((H x)^2) + eps)`, H the centering (arXiv 1607.06450).

    H stays linear under every decomposition; only 1/sigma depends on the image.
    """
    y, op = centred_norm(params, x, decomposition, eps=eps)
    return y + _row(params["bias"], x.ndim), op


def centred_norm(params: Params, x: Float[Array, "... width"], decomposition: Decomposition, *, eps: float) -> Result:
    """LayerNorm without a bias."""
    centering = Centering(x.shape)
    centred = centering(wide(x))
    inverse_sigma = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + eps)
    normalise = decomposition.normalisation(Diagonal(inverse_sigma, x.shape))
    scale = Diagonal(_row(wide(params["scale"]), x.ndim), x.shape)
    return narrow(scale(normalise(centred)), x), Chain((centering, normalise, scale))


def rms_norm(params: Params, x: Float[Array, "... width"], decomposition: Decomposition, *, eps: float) -> Result:
    """`y = gamma * x / sqrt(mean(x^2) + eps)` (arXiv 1910.07467)."""
    inverse_rms = jax.lax.rsqrt(jnp.mean(jnp.square(wide(x)), axis=-1, keepdims=True) + eps)
    normalise = decomposition.normalisation(Diagonal(inverse_rms, x.shape))
    scale = Diagonal(_row(wide(params["scale"]), x.ndim), x.shape)
    return narrow(scale(normalise(wide(x))), x), Chain((normalise, scale))


def norm(params: Params, x: Float[Array, "... width"], decomposition: Decomposition, *, eps: float) -> Result:
    """LayerNorm where the parameters hold a bias, RMSNorm where they hold only a scale."""
    return (layer_norm if "bias" in params else rms_norm)(params, x, decomposition, eps=eps)


def unit_norm(x: Float[Array, "... width"], decomposition: Decomposition) -> Result:
    """`y = x / |x|`, the length in front of a cosine similarity: `1 / |x|` is an operator as a norm's 1/sigma is; 1e12 at most."""
    inverse_length = jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(wide(x)), axis=-1, keepdims=True), 1e-24))
    op = decomposition.normalisation(Diagonal(inverse_length, x.shape))
    return narrow(op(wide(x)), x), op


def activation(x: Float[Array, "..."], decomposition: Decomposition, *, name: str) -> Result:
    """`y = m(x) * x`: a diagonal operator with the activation's multiplier (see `activations`)."""
    op = decomposition.activation(Diagonal(narrow(multiplier(name)(wide(x)), x), x.shape))
    return op(x), op


def mlp(params: Params, x: Tokens, decomposition: Decomposition, *, activation_name: str, eps: float) -> Result:
    """`fc2(norm(phi(fc1(x))))`, or with a gate `fc2(norm(phi(gate(x)) * fc1(x)))` (SwiGLU, arXiv 2002.05202).

    The gate is there when `params` has `gate`, the norm when it has `norm`.
    """
    hidden, first = dense(params["fc1"], x, decomposition)
    if "gate" in params:
        gate, _ = dense(params["gate"], x, decomposition)
        value, _ = activation(gate, decomposition, name=activation_name)
        middle = decomposition.gate(Diagonal(value, hidden.shape))
        hidden = middle(hidden)
    else:
        hidden, middle = activation(hidden, decomposition, name=activation_name)
    links = [first, middle]
    if "norm" in params:
        hidden, op = norm(params["norm"], hidden, decomposition, eps=eps)
        links.append(op)
    y, last = dense(params["fc2"], hidden, decomposition)
    return y, Chain((*links, last))


def split_heads(shape: tuple[int, ...], num_heads: int) -> Rearrange:
    """(tokens, heads * c) to (heads, tokens, c)."""
    tokens, width = shape
    split = (tokens, num_heads, width // num_heads)
    return Rearrange((tokens, width), split, (1, 0, 2), (num_heads, tokens, width // num_heads))


def mixing(
    query: Float[Array, "heads queries c"],
    key: Float[Array, "heads keys c"],
    value: Float[Array, "heads keys c"],
    decomposition: Decomposition,
    probe: Float[Array, "heads queries keys"] | None = None,
    bias: Float[Array, "#heads queries keys"] | None = None,
) -> Result:
    """`softmax(q k^T / sqrt(c) + bias) v` for every head: the attention matrix is the operator, the values its argument.

    `bias` may be one for all heads; large negative numbers in it hide a key from a query. `probe` is added to the attention matrix after
    the rule; at zero it changes nothing, and the derivative with respect to it is that with respect to the matrix, whatever the
    decomposition.
    """
    scores = jnp.matmul(query * query.shape[-1] ** -0.5, jnp.swapaxes(key, -1, -2), preferred_element_type=wide_dtype(query))
    weights, total = decomposition.softmax(scores if bias is None else scores + wide(bias))
    op = decomposition.attention(Mixing(narrow(weights, value), total, value.shape))
    return (op(value) if probe is None else op(value) + probe @ value), op


def _heads(params: Params, name: str, x: Tokens, decomposition: Decomposition, num_heads: int, eps: float) -> Result:
    """Project `x` by `params[name]`, split the heads, and normalise them where `params` has `name_norm`."""
    projected, project = dense(params[name], x, decomposition)
    split = split_heads(projected.shape, num_heads)
    heads, op = split(projected), Chain((project, split))
    if f"{name}_norm" in params:
        heads, normalise = norm(params[f"{name}_norm"], heads, decomposition, eps=eps)
        op = normalise @ op
    return heads, op


def attention(
    params: Params,
    x: Tokens,
    decomposition: Decomposition,
    *,
    num_heads: int,
    eps: float,
    latent: Float[Array, "queries width"] | None = None,
    probe: Float[Array, "heads queries keys"] | None = None,
    rotation: Operator | None = None,
    bias: Float[Array, "#heads queries keys"] | None = None,
) -> Result:
    """Multi-head attention (arXiv 1706.03762): `proj(norm(concat_h softmax((R q_h) (R k_h)^T / sqrt(c) + bias_h) v_h))`.

    Args:
        params: `query`, `key`, `value`, `proj`; optional `query_norm` and `key_norm` (over each head), `norm` (before `proj`).
        x: the tokens, shape (tokens, width).
        decomposition: the rules.
        num_heads: number of heads; divides the width.
        eps: of the norms.
        latent: what asks the queries, if not `x` itself (attention pooling).
        probe: see `mixing`.
        rotation: R, what turns queries and keys by their places (see `rotation`); queries of a latent have none.
        bias: added to the scores.

    Returns:
        Output (queries, width), and the operator that takes x to it along the values.
    """
    query, _ = _heads(params, "query", x if latent is None else latent, decomposition, num_heads, eps)
    key, _ = _heads(params, "key", x, decomposition, num_heads, eps)
    value, values = _heads(params, "value", x, decomposition, num_heads, eps)
    if rotation is not None:
        query, key = rotation(query) if latent is None else query, rotation(key)
    mixed, mix = mixing(query, key, value, decomposition, probe, bias)
    merge = split_heads((mixed.shape[1], mixed.shape[0] * mixed.shape[2]), num_heads).transpose()
    y, links = merge(mixed), [values, mix, merge]
    if "norm" in params:
        y, normalise = norm(params["norm"], y, decomposition, eps=eps)
        links.append(normalise)
    y, project = dense(params["proj"], y, decomposition)
    return y, Chain((*links, project))


def layer_scale(params: Params, x: Float[Array, "... width"]) -> Result:
    """`y = gamma * x` (arXiv 2103.17239)."""
    op = Diagonal(_row(params["scale"], x.ndim), x.shape)
    return op(x), op


def block(
    params: Params,
    x: Tokens,
    decomposition: Decomposition,
    *,
    num_heads: int,
    activation_name: str,
    eps: float,
    probe: Float[Array, "heads queries keys"] | None = None,
    rotation: Operator | None = None,
    bias: Float[Array, "#heads tokens keys"] | None = None,
    rows: int | None = None,
) -> tuple[Float[Array, "rows width"], tuple[Operator, Operator]]:
    """A pre-norm transformer block: `x + ls1(attention(norm1(x)))`, then `x + ls2(mlp(norm2(x)))`.

    Where `params` has `attention_post_norm` and `mlp_post_norm`, the norms are behind the branches: `x + norm1(attention(x))`.
    Returns the output and the operators of the two branches: the block is `(I + mlp branch)(I + attention branch)`; `probe` as in `mixing`,
    `rotation` and `bias` as in `attention`.

    With `rows` only so many leading tokens are computed, which ask all others and have no place: what a head reads after the last block.
    """

    def branch(name: str, x: Tokens) -> Result:
        y, links = x, []
        if f"{name}_norm" in params:
            y, op = norm(params[f"{name}_norm"], x, decomposition, eps=eps)
            links.append(op)
        if name == "attention":
            latent, scores = (None, bias) if rows is None else (y[:rows], None if bias is None else bias[:, :rows])
            options = {"num_heads": num_heads, "eps": eps, "latent": latent, "probe": probe, "rotation": rotation, "bias": scores}
            y, op = attention(params[name], y, decomposition, **options)
        else:
            y, op = mlp(params[name], y, decomposition, activation_name=activation_name, eps=eps)
        links.append(op)
        if f"{name}_post_norm" in params:
            y, op = norm(params[f"{name}_post_norm"], y, decomposition, eps=eps)
            links.append(op)
        if f"{name}_scale" in params:
            y, scale = layer_scale(params[f"{name}_scale"], y)
            links.append(scale)
        return y, Chain(tuple(links))

    y, first = branch("attention", x)
    x = decomposition.residual(x[:rows], y)
    y, second = branch("mlp", x)
    return decomposition.residual(x, y), (first, second)


def patch_embedding(
    params: Params, image: Float[Array, "h w channels"], decomposition: Decomposition, *, patch_size: tuple[int, int]
) -> Result:
    """Cut the image into patches and project each: `kernel` (patch height * patch width * channels, width).

    Returns (patches, width), the patches row by row, and the operator from the image to it.
    """
    height, width, channels = image.shape
    rows, columns = height // patch_size[0], width // patch_size[1]
    cut = Rearrange(
        image.shape,
        (rows, patch_size[0], columns, patch_size[1], channels),
        (0, 2, 1, 3, 4),
        (rows * columns, patch_size[0] * patch_size[1] * channels),
    )
    patches, project = dense(params, cut(image), decomposition, site="embedding")
    return patches, Chain((cut, project))
