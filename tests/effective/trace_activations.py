"""Activations and gates, as people write them of tokens (6, 8); each returns (6, 8)."""

import jax
import jax.numpy as jnp
from trace_arrays import draw, weights

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu6": lambda x: jax.nn.relu6(4 * x),
    "leaky relu": jax.nn.leaky_relu,
    "hard tanh": jax.nn.hard_tanh,
    "hard sigmoid": jax.nn.hard_sigmoid,
    "hard swish": jax.nn.hard_swish,
    "clip": lambda x: jnp.clip(x, -0.3, 0.4),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu tanh": jax.nn.gelu,
    "gelu by hand": lambda x: 0.5 * x * (1 + jax.lax.erf(x / 2**0.5)),
    "silu": jax.nn.silu,
    "silu by hand": lambda x: x / (1 + jnp.exp(-x)),
    "mish": jax.nn.mish,
    "squared relu": lambda x: jnp.square(jax.nn.relu(x)),
    "relu ** 1.5": lambda x: jax.nn.relu(x) ** 1.5,
    "x * x": lambda x: x * x,
    "cube": lambda x: x**3,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "tanh": jnp.tanh,
    "tanh by hand": lambda x: (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-x)),
    "erf": jax.lax.erf,
    "softsign": jax.nn.soft_sign,
    "softplus": jax.nn.softplus,
    "softplus by hand": lambda x: jnp.log(1 + jnp.exp(x)),
    "squareplus": jax.nn.squareplus,
    "sigmoid": jax.nn.sigmoid,
    "log sigmoid": jax.nn.log_sigmoid,
    "cos": jnp.cos,
    "log cosh": lambda x: jnp.log(jnp.cosh(x)),
    "smooth abs": lambda x: jnp.sqrt(x**2 + 1e-3),
    "snake": lambda x: x + jnp.sin(x) ** 2,
}


def swiglu(x):
    return jax.nn.silu(x @ weights(2)) * (x @ weights(3))


def geglu(x):
    a, b = jnp.split(x @ draw(2, 8, 16), 2, axis=-1)
    return a * jax.nn.gelu(b)


def tanh_gate(x):
    return jnp.tanh(x @ weights(2)) * jax.nn.sigmoid(x @ weights(3))


def bilinear(x):
    return (x @ weights(2)) * (x @ weights(3))


def squeeze_excite(x):
    return x * jax.nn.sigmoid(jax.nn.relu(x.mean(0, keepdims=True) @ weights(2)) @ weights(3))


def hard_squeeze_excite(x):
    return x * jax.nn.hard_sigmoid(jax.nn.relu(x.mean(0, keepdims=True) @ weights(2)) @ weights(3))


GATES = [swiglu, geglu, tanh_gate, bilinear, squeeze_excite, hard_squeeze_excite]
