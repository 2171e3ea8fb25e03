"""Smoothing the averaged W_eff before it multiplies the image, as far as two halves of the samples disagree: a Wiener filter.

    W' = idct(G dct(W)),    G = clip(sum dct(W_1) dct(W_2) / sum dct(W)^2, 0, 1)        attribution = image * W'

with sums over the three channels and over rings of like frequency, a third of an octave wide. W_1 and W_2 are averages of half of the
samples each: what they share is signal, the rest of W's power is noise. The more samples, the less is smoothed: G goes to 1.

Where W_eff is smooth and the noise of its samples is fine, that saves a third of the samples; where the signal is as fine as the noise, it
changes little (docs/performance.md). (Wiener 1949; the ring correlation of two halves is van Heel's, 1982.)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.fft import dctn, idctn
from jaxtyping import Array, Float, Integer

from dave_jax.effective.precision import wide

RINGS_AN_OCTAVE = 3

LOWEST = 4
"""Half waves across the image; lower frequencies are one ring, for a few coefficients would not tell their power."""


def rings(height: int, width: int) -> Integer[np.ndarray, "h w"]:
    """The ring of each coefficient of the cosine transform, from the lowest frequency on.

    Example:
        >>> rings(16, 16)[0].tolist()
        [0, 0, 0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 5, 5, 5, 6]
    """
    rows, columns = (np.arange(size) * max(height, width) / size for size in (height, width))
    half_waves = np.hypot(rows[:, None], columns[None])
    return np.round(RINGS_AN_OCTAVE * np.log2(np.maximum(half_waves, LOWEST) / LOWEST)).astype(np.int32)


def wiener(
    average: Float[Array, "h w channels"], one: Float[Array, "h w channels"], other: Float[Array, "h w channels"]
) -> Float[Array, "h w channels"]:
    """The average, of which each frequency is damped as far as the averages of either half of the samples disagree.

    Example:
        >>> signal, noise = jnp.ones((8, 8, 1)), jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
        >>> average = signal + noise.mean(0)
        >>> error = lambda found: float(jnp.square(found - signal).mean())
        >>> error(wiener(average, signal + noise[0], signal + noise[1])) < 0.5 * error(average)
        True
    """
    where = rings(*average.shape[:2])
    member = jax.nn.one_hot(where, int(where.max()) + 1, dtype=average.dtype)  # products with it, for a scatter is slow on TPUs
    spectrum, *halves = (dctn(array, axes=(0, 1), norm="ortho") for array in (average, one, other))

    def power(product: Float[Array, "h w channels"]) -> Float[Array, " rings"]:
        return jnp.einsum("hwc,hwr->r", product, member, precision="highest")

    total = power(spectrum * spectrum)
    gain = jnp.clip(power(halves[0] * halves[1]) / jnp.where(total > 0, total, 1.0), 0.0, 1.0)
    return idctn(spectrum * (member @ gain)[..., None], axes=(0, 1), norm="ortho")


def smooth(
    attribution: Float[Array, "h w 3"], one: Float[Array, "h w 3"], other: Float[Array, "h w 3"], image: Float[Array, "h w 3"]
) -> Float[Array, "h w 3"]:
    """The attribution `image * W` with `wiener` of W, which is taken as 0 where the image is exactly 0.

    Args:
        attribution: of all samples.
        one, other: of half of them each.
        image: the normalised image.

    Example:
        >>> image = jnp.full((8, 8, 3), 2.0)
        >>> f"{smooth(3.0 * image, 2.0 * image, 4.0 * image, image)[0, 0, 0]:.3f}"  # 2 * 4 / 3^2 of 6
        '5.333'
    """
    divisor = jnp.where(image == 0, 1.0, image)
    return image * wiener(*(jnp.where(image == 0, 0.0, wide(part) / divisor) for part in (attribution, one, other)))
