"""Samplers: which neighbours of the image an explanation averages over.

Sample i of an image is a function of the image's key and of i alone (and of `config.num_samples`, over which the noise levels run), so that
a map depends neither on the chunk nor on the device that computes it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from dave_jax.config import DaveConfig
from dave_jax.sampling.noise import noise_levels
from dave_jax.sampling.transforms import NUM_UNIFORMS, Transform, sample_transform, transform_at


class Neighbour(NamedTuple):
    """What makes a neighbour `x_t = (1 - t) T x + sqrt(1 - (1 - t)^2) eps` of an image.

    Attributes:
        transform: T.
        noise: eps, Float[h w 3].
        level: t.
    """

    transform: Transform
    noise: Float[Array, "h w 3"]
    level: Float[Array, ""]


Sampler = Callable[[PRNGKeyArray, Integer[Array, ""], DaveConfig, jax.ShapeDtypeStruct], Neighbour]
"""`sampler(key, number, config, image)`: the sample of that number; `key` is the image's, `image` its shape and dtype."""


def level_of(number: Integer[Array, ""], config: DaveConfig, image: jax.ShapeDtypeStruct) -> Float[Array, ""]:
    """The noise level of a sample: they run from 0 to `noise_alpha` over `num_samples` samples, and then again."""
    levels = noise_levels(config.num_samples, config.noise_alpha, config.schedule).astype(image.dtype)
    return levels[number % config.num_samples]


def independent(key: PRNGKeyArray, number: Integer[Array, ""], config: DaveConfig, image: jax.ShapeDtypeStruct) -> Neighbour:
    """Independent transforms and noise, as the authors' code draws them."""
    transform_key, noise_key = jax.random.split(jax.random.fold_in(key, number))
    transform = sample_transform(transform_key, config, *image.shape[:2])
    return Neighbour(transform, jax.random.normal(noise_key, image.shape, image.dtype), level_of(number, config, image))


def lattice_point(key: PRNGKeyArray, number: Integer[Array, ""]) -> Float[Array, " 10"]:
    """A point of a randomly shifted Kronecker sequence in [0, 1)^10: `frac(shift + number * g^-j)`, j = 1 ... 10.

    Any run of consecutive points is spread more evenly than independent ones are; g is the root of `g^11 = g + 1` (the golden ratio's kin in
    ten dimensions). In integers modulo 2^32, so that no digit is lost however large the number is.
    """
    root = 1.5
    for _ in range(64):
        root = (1.0 + root) ** (1.0 / (NUM_UNIFORMS + 1))
    steps = np.array([round(root**-j * 2**32) % 2**32 for j in range(1, NUM_UNIFORMS + 1)], np.uint32)
    shift = jax.random.bits(key, (NUM_UNIFORMS,), jnp.uint32)
    words = shift + jnp.asarray(number, jnp.uint32) * steps
    return (words >> jnp.uint32(8)).astype(float) / 2.0**24


def lattice(key: PRNGKeyArray, number: Integer[Array, ""], config: DaveConfig, image: jax.ShapeDtypeStruct) -> Neighbour:
    """Transforms from `lattice_point`, independent noise."""
    lattice_key, noise_key = jax.random.split(key)
    noise = jax.random.normal(jax.random.fold_in(noise_key, number), image.shape, image.dtype)
    return Neighbour(transform_at(lattice_point(lattice_key, number), config, *image.shape[:2]), noise, level_of(number, config, image))


SAMPLERS: dict[str, Sampler] = {"independent": independent, "lattice": lattice}
"""By the name in `DaveConfig.sampler`."""
