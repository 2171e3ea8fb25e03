"""The noise path: from the image to noise at constant variance,

    x_t = (1 - t) x + sqrt(1 - (1 - t)^2) eps,        eps ~ N(0, I), 0 <= t <= 1.

With `1 - t = cos(theta)` it is the path `cos(theta) x + sin(theta) eps` of the DAVE slides; the two schedules walk it at different speeds.
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.config import Scalar


def noise_levels(num_samples: int, noise_alpha: Scalar, schedule: Literal["linear", "angle"] = "linear") -> Float[Array, " samples"]:
    """The level t of every sample, from 0 to `noise_alpha`.

    `linear`: equal steps in t (the authors' code). `angle`: equal steps in theta, `t = 1 - cos(theta)`, which spends more samples on little
    noise.

    Example:
        >>> noise_levels(3, 0.5).tolist()
        [0.0, 0.25, 0.5]
        >>> noise_levels(3, 0.5, "angle").round(4).tolist()
        [0.0, 0.134..., 0.5]
    """
    if schedule == "linear":
        return jnp.linspace(0.0, noise_alpha, num_samples)
    return 1.0 - jnp.cos(jnp.linspace(0.0, jnp.arccos(1.0 - noise_alpha), num_samples))


def add_noise(image: Float[Array, "..."], noise: Float[Array, "..."], t: Scalar) -> Float[Array, "..."]:
    """The point of the path at level t.

    Example:
        >>> add_noise(jnp.array([1.0]), jnp.array([1.0]), 0.2).tolist()
        [1.4...]
    """
    signal = 1.0 - t
    return signal * image + jnp.sqrt(1.0 - signal**2) * noise


def standard_normal(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = float) -> Float[Array, "..."]:
    """Independent numbers of N(0, 1): those of `jax.random.normal` to the bit, drawn in a row and then shaped.

    Every number is made from its place in the whole, which XLA on the CPU works out three times as slowly along several axes as along one.

    Args:
        key: the key.
        shape: of the result.
        dtype: of the result, a floating-point type.

    Example:
        >>> key = jax.random.key(0)
        >>> bool(jnp.all(standard_normal(key, (2, 3)) == jax.random.normal(key, (2, 3))))
        True
    """
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)
