"""Localisation: how much of a map lies on the object."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def energy_in_region(maps: Float[Array, "*b h w"], regions: Bool[Array, "*b h w"]) -> Float[Array, "*b"]:
    """The share of a map's positive mass inside a region (the energy-based pointing game, arXiv 1910.01279).

    A map without positive mass scores 0.

    Example:
        >>> energy_in_region(jnp.array([[1.0, 3.0], [-9.0, 0.0]]), jnp.array([[False, True], [True, True]])).item()
        0.75
    """
    positive = jnp.maximum(maps, 0.0)
    total = jnp.sum(positive, axis=(-2, -1))
    inside = jnp.sum(jnp.where(regions, positive, 0.0), axis=(-2, -1))
    return jnp.where(total > 0, inside / jnp.where(total > 0, total, 1.0), 0.0)
