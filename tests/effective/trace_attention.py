"""Attention, as people write it of tokens (6, 8); each returns (6, 8)."""

import jax
import jax.numpy as jnp
from trace_arrays import bias, draw, weights


def attention(x):
    q, k, v = x @ weights(2), x @ weights(3) + bias(), x @ weights(4)
    return jax.nn.softmax(q @ k.T / 8**0.5) @ v


def masked_attention(x):
    scores = jnp.where(jnp.tril(jnp.ones((6, 6), bool)), x @ weights(2) @ x.T, -jnp.inf)
    return jax.nn.softmax(scores) @ x


def capped_attention(x):
    return jax.nn.softmax(5 * jnp.tanh(x @ weights(2) @ x.T / 5)) @ x


def library_attention(x, **options):
    q, k, v = ((x @ weights(i)).reshape(1, 6, 2, 4) for i in (2, 3, 4))
    with jax.numpy_dtype_promotion("standard"):  # JAX's own code mixes types
        return jax.nn.dot_product_attention(q, k, v, **options).reshape(6, 8)


def causal_library_attention(x):
    return library_attention(x, is_causal=True)


def rotary_attention(x):
    def rotate(z):
        a, b = jnp.split(z, 2, -1)
        angle = jnp.arange(6.0)[:, None] * jnp.arange(1.0, 5.0)[None]
        return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], -1)

    return jax.nn.softmax(rotate(x @ weights(2)) @ rotate(x @ weights(3)).T) @ (x @ weights(4))


def attention_pooling(x):
    return jnp.tile(jax.nn.softmax(draw(5, 1, 8) @ (x @ weights(2)).T) @ x, (6, 1))


def linear_attention(x):
    q, k, v = jax.nn.elu(x @ weights(2)) + 1, jax.nn.elu(x @ weights(3)) + 1, x @ weights(4)
    return (q @ (k.T @ v)) / (q @ k.sum(0)[:, None])


def relu_attention(x):
    return jax.nn.relu(x @ weights(2)) @ jax.nn.relu(x @ weights(3)).T @ x / 6


ATTENTION = [
    attention, masked_attention, capped_attention, library_attention, causal_library_attention, rotary_attention, attention_pooling,
    linear_attention, relu_attention,
]  # fmt: skip
