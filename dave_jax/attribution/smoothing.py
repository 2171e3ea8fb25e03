"""Smoothing the averaged W_eff before it multiplies the image: the noise that few samples leave is finer than what they agree on.

    W' = argmin_V  n |V - W|^2 + length^2 |grad V|^2          attribution = image * W'

with n the number of samples: in the cosine basis, division by `1 + (2 pi f length)^2 / n` for the frequency f in cycles a pixel. A penalty
on slopes that n samples outweigh n times: with more of them less is smoothed, and the limit is that without.

That the average is smooth and its noise is not was measured (`benchmarks/samplers.py`, docs/performance.md); `length` is the distance over
which a single sample says nothing that the limit says.
"""

import jax.numpy as jnp
import numpy as np
from jax.scipy.fft import dctn, idctn
from jaxtyping import Array, Float

from dave_jax.config import Scalar


def smooth(array: Float[Array, "*leading h w channels"], length: Scalar, count: Scalar) -> Float[Array, "*leading h w channels"]:
    """`array`, an average of `count` samples, smoothed over `length / sqrt(count)` pixels; the borders reflect.

    Example:
        >>> peak = jnp.zeros((8, 8, 1)).at[4, 4].set(1.0)
        >>> few, many = smooth(peak, 2.0, 4), smooth(peak, 2.0, 400)
        >>> bool(few[4, 4, 0] < many[4, 4, 0] < 1.0), few.sum().round(5).item()
        (True, 1.0)
    """
    axes = (-3, -2)
    height, width = array.shape[-3:-1]
    rows, columns = (np.pi * np.arange(size) / size for size in (height, width))  # angular frequencies, in radians a pixel
    squares = jnp.asarray(rows[:, None] ** 2 + columns[None] ** 2, array.dtype)
    gain = 1.0 / (1.0 + squares * (length**2 / count))
    gain = gain.reshape((1,) * (array.ndim - 3) + (height, width, 1))
    return idctn(dctn(array, axes=axes, norm="ortho") * gain, axes=axes, norm="ortho")


def smooth_attribution(
    attribution: Float[Array, "*leading h w 3"], image: Float[Array, "h w 3"], length: Scalar, count: Scalar
) -> Float[Array, "*leading h w 3"]:
    """The image times the smoothed W_eff of an attribution `image * W_eff`, which is taken as 0 where the image is exactly 0.

    Example:
        >>> image = jnp.array([[[1.0, 2.0, 4.0]] * 2] * 2)
        >>> smooth_attribution(3.0 * image, image, 5.0, 1).round(4)[0, 0].tolist()
        [3.0, 6.0, 12.0]
    """
    image = image.reshape((1,) * (attribution.ndim - 3) + image.shape)
    transformation = jnp.where(image == 0, 0.0, attribution / jnp.where(image == 0, 1.0, image))
    return image * smooth(transformation, length, count)
