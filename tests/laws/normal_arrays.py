"""Arrays drawn from the normal distribution."""

import jax


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)
