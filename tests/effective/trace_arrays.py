"""Tokens, weights and biases for the functions that `decompose` is tested on."""

import jax.numpy as jnp
import numpy as np


def draw(i, *shape):
    """Drawn by NumPy, so that no function has to be compiled with a generator in it."""
    return jnp.asarray(np.random.default_rng(i).normal(size=shape), jnp.result_type(float))


def weights(i):
    return draw(i, 8, 8) / 8**0.5


def bias():
    return draw(1, 1, 8)


def tokens():
    return draw(0, 6, 8)
