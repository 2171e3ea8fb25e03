"""Samplers that were tried, and that the package does not offer: `samplers.py` holds them against those that it does.

Each is a `dave_jax.sampling.samplers.Sampler`: a function of key, number, settings and image that draws a neighbour.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from dave_jax.sampling.samplers import Neighbour, lattice, lattice_point, level_of
from dave_jax.sampling.transforms import Transform, about_centre, draw_uniforms, stretch, transform_at, translation


def _pair(number):
    """The pair that a sample belongs to, and +1 or -1 for its first and second."""
    return number // 2, 1.0 - 2.0 * (number % 2).astype(float)


def _pair_level(number, config, image):
    half = dataclasses.replace(config, num_samples=max(1, (config.num_samples + 1) // 2), chunk_size=None)
    return level_of(number // 2, half, image)


def _parts(key, number, image, *, even: bool):
    """Numbers for a transform, and noise, of one number; `even` takes them from the lattice."""
    point_key, noise_key = jax.random.split(key)
    noise = jax.random.normal(jax.random.fold_in(noise_key, number), image.shape, image.dtype)
    return lattice_point(point_key, number) if even else draw_uniforms(jax.random.fold_in(point_key, number)), noise


def antithetic(key, number, config, image, *, even=False):
    """Pairs that share transform and level, with noise of opposite signs."""
    pair, sign = _pair(number)
    uniforms, noise = _parts(key, pair, image, even=even)
    return Neighbour(transform_at(uniforms, config, *image.shape[:2]), sign.astype(image.dtype) * noise, _pair_level(number, config, image))


def mirrored(key, number, config, image, *, even=False, opposite=False):
    """Pairs of which the second is the mirror image of the first; `opposite` turns its noise's sign too."""
    pair, sign = _pair(number)
    uniforms, noise = _parts(key, pair, image, even=even)
    height, width = image.shape[:2]
    flip = about_centre(stretch(sign, 1.0), height, width)
    matrix = flip @ transform_at(uniforms, config, height, width).matrix
    noise = jnp.where(sign < 0, -noise[:, ::-1] if opposite else noise[:, ::-1], noise)
    return Neighbour(Transform(matrix), noise, _pair_level(number, config, image))


def lattice_opposite(key, number, config, image):
    """A transform of its own for each sample, from the lattice; the noise of two consecutive ones has opposite signs."""
    pair, sign = _pair(number)
    neighbour, (_, noise) = lattice(key, number, config, image), _parts(key, pair, image, even=False)
    return neighbour._replace(noise=sign.astype(image.dtype) * noise)


def whole_shifts(key, number, config, image):
    """Flips and shifts by whole pixels only: no interpolation, and another neighbourhood."""
    uniforms, noise = _parts(key, number, image, even=True)
    height, width = image.shape[:2]
    flip = about_centre(stretch(jnp.where(uniforms[0] < config.flip_probability, -1.0, 1.0), 1.0), height, width)
    shift = jnp.round(config.shift * (2.0 * uniforms[3:5] - 1.0) * jnp.array([width, height], float))
    return Neighbour(Transform(translation(*shift) @ flip), noise, level_of(number, config, image))


TRIED = {
    "antithetic": antithetic,
    "mirrored": mirrored,
    "mirrored_opposite": functools.partial(mirrored, opposite=True),
    "lattice_antithetic": functools.partial(antithetic, even=True),
    "lattice_mirrored": functools.partial(mirrored, even=True),
    "lattice_mirrored_opposite": functools.partial(mirrored, even=True, opposite=True),
    "lattice_opposite": lattice_opposite,
    "whole_shifts": whole_shifts,
}
