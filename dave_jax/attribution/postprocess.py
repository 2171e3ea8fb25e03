"""From an attribution (h, w, 3) to a heat map (h, w) in [0, 1]: the authors' filters, each usable by itself.

    channel sum -> ReLU -> share of Gaussian blur -> bilateral filter -> divide by the maximum

Filters take and return (h, w) and see zeros outside the image.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.config import DaveConfig, Scalar
from dave_jax.sampling.blur import gaussian_blur

HeatMap = Float[Array, "h w"]


def positive_part(raw: Float[Array, "h w channels"]) -> HeatMap:
    """`max(sum over channels, 0)`: what speaks for the target."""
    return jax.nn.relu(jnp.sum(raw, axis=-1))


def blend_gaussian(heat: HeatMap, *, size: int, sigma: Scalar, share: Scalar) -> HeatMap:
    """`(1 - share) c + share gauss(c)`: kernel of `size` pixels (odd) and of `sigma` pixels, its weights summing to one."""
    blurred = gaussian_blur(heat[..., None], size=size, sigma=sigma)[..., 0]
    return (1.0 - share) * heat + share * blurred


def bilateral(heat: HeatMap, *, size: int, sigma: Scalar, value_range: Scalar) -> HeatMap:
    """Smooth within regions of like value: `sum_d w_d c(p + d) / sum_d w_d` with

    `w_d = exp(-|d|^2 / (2 sigma^2)) exp(-(c(p + d) - c(p))^2 / (2 value_range^2))` over a window of `size` pixels (odd).

    Args:
        heat: the map c.
        size: of the window.
        sigma: of the distance, in pixels.
        value_range: of the difference, in units of the map.
    """
    radius = size // 2
    height, width = heat.shape
    padded = jnp.pad(heat, radius)
    total, weights = jnp.zeros_like(heat), jnp.zeros_like(heat)
    for row in range(size):
        for column in range(size):
            distance = float((row - radius) ** 2 + (column - radius) ** 2)
            shifted = padded[row : row + height, column : column + width]
            closeness = distance / (2.0 * sigma**2) + (shifted - heat) ** 2 / (2.0 * value_range**2)
            weight = jnp.exp(-closeness)
            total, weights = total + weight * shifted, weights + weight
    return total / weights


def divide_by_maximum(heat: HeatMap) -> HeatMap:
    """Scale to a maximum of one; a map of zeros stays so, and one that is not finite becomes NaN.

    Example:
        >>> divide_by_maximum(jnp.array([[0.0, 2.0]])).tolist(), divide_by_maximum(jnp.zeros((1, 2))).tolist()
        ([[0.0, 1.0]], [[0.0, 0.0]])
    """
    peak = jnp.max(heat)
    peak = jnp.where(jnp.isfinite(peak), peak, jnp.nan)
    scaled = heat / jnp.where(peak <= 0, 1.0, peak)
    # Exactly one: XLA multiplies by the reciprocal, which leaves 1 - 6e-8 of every fourth maximum.
    return jnp.where(peak <= 0, jnp.zeros_like(heat), jnp.where(heat == peak, 1.0, scaled))


def postprocess(raw: Float[Array, "h w channels"], config: DaveConfig | None = None) -> HeatMap:
    """All filters in order, with the sizes and sigmas of `config` (default: the authors').

    Example:
        >>> postprocess(jnp.ones((16, 16, 3))).shape
        (16, 16)
    """
    config = DaveConfig() if config is None else config
    heat = positive_part(raw)
    heat = blend_gaussian(heat, size=config.gaussian_size, sigma=config.gaussian_sigma, share=config.gaussian_share)
    heat = bilateral(heat, size=config.bilateral_size, sigma=config.bilateral_sigma, value_range=config.bilateral_range)
    return divide_by_maximum(heat)
