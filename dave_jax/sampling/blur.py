"""The Gaussian blur, from dm-pix."""

import dm_pix
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.config import Scalar
from dave_jax.effective.precision import narrow, wide


def gaussian_blur(image: Float[Array, "h w channels"], *, size: int, sigma: Scalar) -> Float[Array, "h w channels"]:
    """Blur with a kernel of `size` pixels (odd) and `sigma` pixels; zeros outside the image, weights that sum to one.

    Example:
        >>> gaussian_blur(jnp.ones((5, 5, 1)), size=3, sigma=1.0)[2, 2].tolist()
        [1.0]
    """
    precise = wide(image)  # dm-pix makes its kernel in float32
    with jax.numpy_dtype_promotion("standard"):  # it mixes integers and floats, which strict promotion forbids
        blurred = jnp.asarray(dm_pix.gaussian_blur(precise, jnp.asarray(sigma, precise.dtype), size, padding="SAME"))
    return narrow(blurred, image)
