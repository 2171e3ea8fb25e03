"""Convolution, pooling, sorting, indexing and sums of products, as people write them of tokens (6, 8); each returns (6, 8)."""

import jax
import jax.numpy as jnp
from trace_arrays import draw, weights


def convolution(x):
    names = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x.reshape(1, 6, 8, 1), draw(8, 3, 3, 1, 4), (1, 1), "SAME", dimension_numbers=names)
    y = jax.nn.relu(y - draw(9, 1, 1, 1, 4))
    y = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    return y.reshape(6, 8)


def average_pooling(x):
    return jnp.tile(jax.lax.reduce_window(x, 0.0, jax.lax.add, (3, 1), (3, 1), "VALID"), (3, 1))


def generalised_mean(x):
    return jnp.tile(jnp.power(jnp.mean(jnp.maximum(x, 1e-6) ** 3.0, 0, keepdims=True), 1 / 3), (6, 1))


def strongest(x):
    return jnp.tile(jax.lax.top_k(x.T, 2)[0].T, (3, 1))


def by_order(x):
    return jnp.take_along_axis(x, jnp.argsort(x, 0), 0) + jnp.sort(x, 1)


def three_factors(x):
    return jnp.einsum("ij,jk,lk->il", x, weights(2), weights(3)) + jnp.einsum(
        "ij,ij,ij->ij", jax.nn.sigmoid(x), jnp.tanh(x @ weights(2)), x
    )


def scattered(x):
    return jnp.zeros((6, 8), x.dtype).at[jnp.array([0, 3])].add(jnp.tanh(x[:2])) + x.at[2].set(1.0)


def chosen_row(x):
    return x + jax.lax.dynamic_slice(x, (jnp.argmax(x[:, 0]), 0), (1, 8))


def spectrum(x):
    return jnp.fft.fft2(x).real + jnp.cumsum(x, 0)


def dropped(x):
    return x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape).astype(x.dtype)


OTHERS = [convolution, average_pooling, generalised_mean, strongest, by_order, three_factors, scattered, chosen_row, spectrum, dropped]
