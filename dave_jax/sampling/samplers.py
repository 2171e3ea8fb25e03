"""Samplers: which neighbours of the image an explanation averages over.

Sample i of an image is a function of the image's key and of i alone (and of `config.num_samples`, over which the noise levels run), so that
a map depends neither on the chunk nor on the device that computes it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from dave_jax.config import DaveConfig
from dave_jax.sampling.noise import noise_levels, standard_normal
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
    return Neighbour(transform, standard_normal(noise_key, image.shape, image.dtype), level_of(number, config, image))


def lattice_point(key: PRNGKeyArray, number: Integer[Array, ""]) -> Float[Array, " 10"]:
    """A point of a randomly shifted sequence in [0, 1)^10, any run of which is spread more evenly than independent points are.

    The first coordinate is van der Corput's, the number's bits in reverse, of which every second point lies in either half: flips
    alternate. The others are Richtmyer's, `frac(shift + number * sqrt(p))` for the primes p. In integers modulo 2^32, so that no digit is
    lost however large the number is.
    """
    number = jnp.asarray(number).astype(jnp.uint32)
    steps = np.array([round(math.sqrt(prime) % 1.0 * 2**32) for prime in (2, 3, 5, 7, 11, 13, 17, 19, 23)], np.uint32)
    words = jnp.concatenate([_reverse_bits(number)[None], number * steps])
    return ((words + jax.random.bits(key, (NUM_UNIFORMS,), jnp.uint32)) >> jnp.uint32(8)).astype(float) / 2.0**24


def _reverse_bits(word: Integer[Array, ""]) -> Integer[Array, ""]:
    for width, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
        width, mask = jnp.uint32(width), jnp.uint32(mask)
        word = ((word >> width) & mask) | ((word & mask) << width)
    return word


def lattice(key: PRNGKeyArray, number: Integer[Array, ""], config: DaveConfig, image: jax.ShapeDtypeStruct) -> Neighbour:
    """Transforms from `lattice_point`, independent noise."""
    lattice_key, noise_key = jax.random.split(key)
    noise = standard_normal(jax.random.fold_in(noise_key, number), image.shape, image.dtype)
    return Neighbour(transform_at(lattice_point(lattice_key, number), config, *image.shape[:2]), noise, level_of(number, config, image))


SAMPLERS: dict[str, Sampler] = {"independent": independent, "lattice": lattice}
"""By the name in `DaveConfig.sampler`. A name stands for one function: what was compiled with it keeps that."""


def sampler_called(name: str) -> Sampler:
    """The sampler of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in SAMPLERS:
        raise ValueError(f"A sampler is one of {sorted(SAMPLERS)}; got {name!r}. Enter your own in dave_jax.sampling.samplers.SAMPLERS.")
    return SAMPLERS[name]
