"""Layer-wise relevance propagation through a vision transformer (Chefer et al., CVPR 2021, arXiv 2012.09838).

The functions below have the values of the model's layers, and cotangents that are *relevances* instead of derivatives: `jax.vjp` of the
network is the relevance pass. With R on a layer's output:

    matrix product x W    R_i = sum_j (x_i W_ij)^+ R_j / sum_i' (x_i' W_i'j)^+     (alpha = 1, beta = 0: eq. 3; biases take nothing)
    product a b           R_a = a * (S b^T) / 2, R_b = b * (a^T S) / 2, S = R / (a b)        half to each factor
    sum x + y             x * R / (x + y) and y * R / (x + y), each rescaled so that their totals share R's by |total| (eqs. 9, 10)
    norm, activation, softmax, layer scale      R passes unchanged

What the paper's models do not have is ours, in the spirit of the above: norms of queries, keys and branches pass R unchanged, so do the
rotation of queries and keys and the sum of the scores with a relative position bias, the two
halves of a gated MLP get half each, average pooling is a matrix product with positive weights (each token's positive part), a class token
beside an average keeps the relevance of its own half, and a distilled model's two heads are a sum.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.attribution.baselines.walk import Network
from dave_jax.effective import layers
from dave_jax.effective.decomposition import gradient
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig
from dave_jax.models.vit_positions import attention_positions

TINY = 1e-9
"""Added to every denominator, with its sign, as in the authors' code."""


def _divide(a: Array, b: Array) -> Array:
    return jnp.where(b == 0, 0.0, a / (b + jnp.where(b < 0, -TINY, TINY)))


@jax.custom_vjp
def linear(x: Float[Array, "... in"], kernel: Float[Array, "in out"]) -> Float[Array, "... out"]:
    """`x W`; relevance goes to the positive terms of each output."""
    return x @ kernel


def _linear_backward(kept, relevance):
    x, kernel = kept
    up, down, positive, negative = jnp.maximum(kernel, 0), jnp.minimum(kernel, 0), jnp.maximum(x, 0), jnp.minimum(x, 0)
    share = _divide(relevance, positive @ up + negative @ down)
    return positive * (share @ up.T) + negative * (share @ down.T), None


linear.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _linear_backward)


@jax.custom_vjp
def matmul(a: Float[Array, "heads i j"], b: Float[Array, "heads j k"]) -> Float[Array, "heads i k"]:
    """`a b`; relevance is halved between the factors and goes to their entries by the size of the terms."""
    return a @ b


def _matmul_backward(kept, relevance):
    a, b = kept
    share = 0.5 * _divide(relevance, a @ b)
    return a * (share @ jnp.swapaxes(b, -1, -2)), b * (jnp.swapaxes(a, -1, -2) @ share)


matmul.defvjp(lambda a, b: (a @ b, (a, b)), _matmul_backward)


@jax.custom_vjp
def add(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x + y`; relevance goes by the size of the terms, and in total by the sizes of the two totals."""
    return x + y


def _add_backward(kept, relevance):
    share = _divide(relevance, kept[0] + kept[1])
    parts = [term * share for term in kept]
    totals = [jnp.sum(part) for part in parts]
    size = jnp.abs(totals[0]) + jnp.abs(totals[1])
    wanted = [_divide(jnp.abs(total), size) * jnp.sum(relevance) for total in totals]
    return tuple(part * _divide(want, total) for part, want, total in zip(parts, wanted, totals, strict=True))


add.defvjp(lambda x, y: (x + y, (x, y)), _add_backward)


def through(value: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`value`, computed from x by a layer that passes relevance to x unchanged."""
    return jax.lax.stop_gradient(value) + (x - jax.lax.stop_gradient(x))


def _dense(params: Any, x: Array) -> Array:
    y = linear(x, params["kernel"])
    return y + params["bias"].reshape((1,) * (y.ndim - 1) + (-1,)) if "bias" in params else y


def _norm(params: Any, x: Array, config: ViTConfig) -> Array:
    return through(layers.norm(params, x, gradient, eps=config.eps)[0], x)


def _attention(params: Any, x: Array, config: ViTConfig, probe: Array | None, latent: Array | None = None) -> tuple[Array, Array]:
    """As `layers.attention`, with the attention matrix."""
    pooling = latent is not None
    num_heads = (config.pool_num_heads if pooling else None) or config.num_heads
    positions = {} if pooling else attention_positions(params, config, x.dtype)

    def heads(name: str, x: Array) -> Array:
        y = _dense(params[name], x)
        y = layers.split_heads(y.shape, num_heads)(y)
        return _norm(params[f"{name}_norm"], y, config) if f"{name}_norm" in params else y

    query, key, value = heads("query", x if latent is None else latent), heads("key", x), heads("value", x)
    if "rotation" in positions:
        query, key = (through(positions["rotation"](part), part) for part in (query, key))
    scores = matmul(query, jnp.swapaxes(key, -1, -2))
    scaled = scores * query.shape[-1] ** -0.5
    matrix = through(jax.nn.softmax(scaled + positions["bias"] if "bias" in positions else scaled, axis=-1), scores)
    mixed = matmul(matrix if probe is None else matrix + probe, value)
    y = layers.split_heads((mixed.shape[1], mixed.shape[0] * mixed.shape[2]), num_heads).transpose()(mixed)
    y = _norm(params["norm"], y, config) if "norm" in params else y
    return _dense(params["proj"], y), matrix


def _mlp(params: Any, x: Array, config: ViTConfig) -> Array:
    def activation(x: Array) -> Array:
        return through(layers.activation(x, gradient, name=config.activation)[0], x)

    hidden = _dense(params["fc1"], x)
    if "gate" in params:
        gate = activation(_dense(params["gate"], x))
        hidden = through(gate * hidden, 0.5 * gate + 0.5 * hidden)
    else:
        hidden = activation(hidden)
    return _dense(params["fc2"], _norm(params["norm"], hidden, config) if "norm" in params else hidden)


def relevances(vit: ViT) -> Network:
    """The network whose cotangents are relevances."""
    config = vit.config

    def block(params, tokens, probe):
        def normed(name: str, x: Array) -> Array:
            return _norm(params[name], x, config) if name in params else x

        def scaled(name: str, y: Array) -> Array:
            y = normed(f"{name}_post_norm", y)
            return through(layers.layer_scale(params[f"{name}_scale"], y)[0], y) if f"{name}_scale" in params else y

        branch, matrix = _attention(params["attention"], normed("attention_norm", tokens), config, probe)
        tokens = add(tokens, scaled("attention", branch))
        branch = _mlp(params["mlp"], normed("mlp_norm", tokens), config)
        return add(tokens, scaled("mlp", branch)), matrix

    def head(params, tokens, probe):
        if config.final_norm == "tokens":
            tokens = _norm(params["final_norm"], tokens, config)
        pooled, matrix = _pool(params, tokens, config, probe)
        if config.final_norm == "pooled":
            pooled = _norm(params["final_norm"], pooled, config)
        if config.projection:
            pooled = _dense(params["projection"], pooled)
        if config.unit_features:
            pooled = through(layers.unit_norm(pooled, gradient)[0], pooled)
        logits = _dense(params["head"], pooled) if config.num_classes else pooled
        if config.distillation_token:
            other = _dense(params["distillation_head"], tokens[1:2]) if config.num_classes else tokens[1:2]
            both = add(logits, other)
            logits = through(0.5 * both, both)
        return logits[0], matrix

    return Network(block, head)


def _pool(params: Any, tokens: Array, config: ViTConfig, probe: Array | None) -> tuple[Array, Array | None]:
    if config.pooling == "token":
        return tokens[:1], None
    token = tokens[:1]
    tokens = tokens if config.pool_prefix else tokens[config.num_prefix :]
    if config.pooling in ("avg", "token_and_mean"):
        mean = linear(tokens.T, jnp.full((len(tokens), 1), 1.0 / len(tokens), tokens.dtype)).T
        return mean if config.pooling == "avg" else jnp.concatenate([token, mean], axis=1), None
    pool = params["pool"]
    y, matrix = _attention(pool["attention"], tokens, config, probe, latent=pool["latent"])
    return add(y, _mlp(pool["mlp"], _norm(pool["mlp_norm"], y, config), config)), matrix
