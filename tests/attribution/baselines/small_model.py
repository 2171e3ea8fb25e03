"""A model that is nonlinear and compiles at once."""

import jax
import jax.numpy as jnp

from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing


def bent(params, image, decomposition):
    """`V tanh(W x)`."""
    first, second = params
    hidden = jnp.tanh(jnp.einsum("mhwd,hwd->m", first, image, precision="highest"))
    return jnp.einsum("cm,m->c", second, hidden, precision="highest")


def small_model(image_size: tuple[int, int] = (16, 16)) -> Model:
    """Five classes, eight hidden units, of which the larger are well into the bend."""
    first, second = jax.random.split(jax.random.key(1))
    params = (0.05 * jax.random.normal(first, (8, *image_size, 3)), jax.random.normal(second, (5, 8)))
    return Model(params, bent, preprocessing=Preprocessing(image_size=image_size))
