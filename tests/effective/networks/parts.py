"""Weights drawn by NumPy, and the layers that several architectures share, in plain jax.numpy."""

import jax
import jax.numpy as jnp
import numpy as np


class Draws:
    """Arrays one after the other, of normal numbers divided by the square root of the fan-in."""

    def __init__(self, seed):
        self.generator = np.random.default_rng(seed)

    def __call__(self, *shape):
        fan_in = np.prod(shape[:-1]) if len(shape) > 1 else 1
        return jnp.asarray(self.generator.normal(size=shape) / fan_in**0.5, jnp.result_type(float))

    def positive(self, *shape):
        return jnp.asarray(self.generator.uniform(0.5, 1.5, size=shape), jnp.result_type(float))

    def dense(self, features_in, features_out):
        return {"kernel": self(features_in, features_out), "bias": 0.3 * self(features_out)}

    def norm(self, width):
        return {"scale": self.positive(width), "bias": 0.3 * self(width)}

    def block(self, width, hidden):
        names = ("query", "key", "value", "proj")
        mlp = {"norm1": self.norm(width), "norm2": self.norm(width), "fc1": self.dense(width, hidden), "fc2": self.dense(hidden, width)}
        return mlp | {name: self.dense(width, width) for name in names}


def dense(params, x):
    return x @ params["kernel"] + jnp.expand_dims(params["bias"], range(x.ndim - 1))


def layer_norm(params, x, eps=1e-6):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    scale, bias = (jnp.expand_dims(params[name], range(x.ndim - 1)) for name in ("scale", "bias"))
    return (x - mean) / jnp.sqrt(variance + eps) * scale + bias


def patches(image, size):
    """(h, w, c) to (rows * columns, size * size * c)."""
    h, w, c = image.shape
    return image.reshape(h // size, size, w // size, size, c).swapaxes(1, 2).reshape(-1, size * size * c)


def split(x, num_heads):
    return x.reshape(len(x), num_heads, -1).swapaxes(0, 1)


def merge(x):
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)


def attend(query, key, value, *, mask=None):
    """`softmax(q k^T / sqrt(c)) v` of every head, (heads, tokens, c)."""
    scores = jnp.einsum("hqc,hkc->hqk", query, key) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    return jnp.einsum("hqk,hkc->hqc", jax.nn.softmax(scores, axis=-1), value)


def mlp(params, x):
    return dense(params["fc2"], jax.nn.gelu(dense(params["fc1"], x), approximate=False))


def block(params, x, *, num_heads=2, mask=None, rotate=lambda x: x):
    """A pre-norm transformer block."""
    y = layer_norm(params["norm1"], x)
    query, key, value = (split(dense(params[name], y), num_heads) for name in ("query", "key", "value"))
    x = x + dense(params["proj"], merge(attend(rotate(query), rotate(key), value, mask=mask)))
    return x + mlp(params, layer_norm(params["norm2"], x))
