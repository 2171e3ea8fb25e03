"""Normalisations, as people write them of tokens (6, 8); each returns (6, 8)."""

import jax
import jax.numpy as jnp
from trace_arrays import bias, draw, weights


def layer_norm(x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * draw(4, 1, 8) + bias()


def fast_variance(x):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.maximum((x * x).mean(-1, keepdims=True) - mean * mean, 0.0)
    return (x - mean) / jnp.sqrt(variance + 1e-5)


def rms_norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)


def group_norm(x):
    groups = x.reshape(6, 2, 4)
    mean, variance = groups.mean((0, 2), keepdims=True), groups.var((0, 2), keepdims=True)
    return ((groups - mean) / jnp.sqrt(variance + 1e-5)).reshape(6, 8)


def batch_norm(x):
    return (x - draw(5, 1, 8)) / jnp.sqrt(jnp.abs(draw(6, 1, 8)) + 1e-5) * draw(7, 1, 8) + bias()


def response_norm(x):
    size = jnp.linalg.norm(x, axis=0, keepdims=True)
    return x * (size / (size.mean(-1, keepdims=True) + 1e-6)) * bias() + x


def cosine(x):
    kernel = weights(2) / jnp.linalg.norm(weights(2), axis=0, keepdims=True)
    return (x / jnp.linalg.norm(x, axis=-1, keepdims=True)) @ kernel


def b_cos(x):
    kernel = weights(2) / jnp.linalg.norm(weights(2), axis=0, keepdims=True)
    y = x @ kernel
    return y * jnp.abs(y) / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)


def coda(x):
    kernel = x @ weights(2)
    kernel = kernel / jnp.maximum(1e-6, jnp.linalg.norm(kernel, axis=-1, keepdims=True))
    return jnp.sum(kernel * x, -1, keepdims=True) * kernel


NORMALISATIONS = [layer_norm, fast_variance, rms_norm, group_norm, batch_norm, response_norm, cosine, b_cos, coda]
