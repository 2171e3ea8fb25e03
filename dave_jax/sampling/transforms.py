"""Small spatial transforms of an image: sample the parameters, then apply the deterministic transform.

A `Transform` is one affine matrix (flip, padding, rotation, scale and shift composed: one interpolation, not five) and a blur. Applying
it is linear in the image, so an attribution of the transformed image is pulled back to the clean one by the adjoint (DAVE, arXiv
2602.06613, slides: tau-dagger; the authors' code: autograd) or by the inverse warp (eq. 6).

Conventions: rotation in degrees, positive turns clockwise on the screen; shifts, padding as shares of the size; blur sigma in pixels.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.config import DaveConfig, Scalar
from dave_jax.sampling.blur import gaussian_blur
from dave_jax.sampling.warp import Matrix, inverse_affine, warp

BLUR_SIZE = 9
"""Size of the blur's kernel in pixels."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Transform:
    """A sampled transform: `matrix` takes input pixels (x, y, 1) to output pixels; `blur` is a sigma in pixels, or None for no blur."""

    matrix: Any
    blur: Any = None


def translation(x: Scalar, y: Scalar) -> Matrix:
    """Shift by (x, y) pixels."""
    return jnp.eye(3).at[0, 2].set(x).at[1, 2].set(y)


def stretch(x: Scalar, y: Scalar) -> Matrix:
    """Scale the axes by x and y about pixel (0, 0)."""
    return jnp.eye(3).at[0, 0].set(x).at[1, 1].set(y)


def rotation(degrees: Scalar) -> Matrix:
    """Turn clockwise on the screen about pixel (0, 0).

    Example:
        >>> (rotation(90.0) @ jnp.array([1.0, 0.0, 1.0])).round(6).tolist()  # from the right, downwards
        [...0.0, 1.0, 1.0]
    """
    cosine, sine = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    return jnp.eye(3).at[:2, :2].set(jnp.stack([jnp.stack([cosine, -sine]), jnp.stack([sine, cosine])]))


def about_centre(matrix: Matrix, height: int, width: int) -> Matrix:
    """The same map about the image's centre ((w - 1) / 2, (h - 1) / 2) instead of pixel (0, 0)."""
    x, y = (width - 1) / 2, (height - 1) / 2
    return translation(x, y) @ matrix @ translation(-x, -y)


def padding(left: Scalar, right: Scalar, top: Scalar, bottom: Scalar, height: int, width: int) -> Matrix:
    """Shrink the image so that it leaves borders of these many pixels, to be filled with zeros.

    Resizing maps pixel edges to pixel edges: centre x goes to `(x + 1/2) s + left - 1/2`, `s = (w - left - right) / w`.
    """
    x, y = (width - left - right) / width, (height - top - bottom) / height
    return translation(left - 0.5, top - 0.5) @ stretch(x, y) @ translation(0.5, 0.5)


def sample_transform(key: PRNGKeyArray, config: DaveConfig, height: int, width: int) -> Transform:
    """Draw a transform for an image of that size, with the ranges of `config`.

    A horizontal flip with probability `flip_probability`; padding, if switched on; then about the centre one affine map: rotation
    U(-rotation, rotation), isotropic scale U(scale_min, scale_max), shift U(-shift, shift) of the size on each axis; a blur, if on.

    Example:
        >>> still = DaveConfig(flip_probability=0.0, rotation=0.0, shift=0.0, scale_min=1.0, scale_max=1.0)
        >>> sample_transform(jax.random.key(0), still, 8, 8).matrix.round(6).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    flip_key, angle_key, scale_key, shift_key, padding_key, blur_key = jax.random.split(key, 6)
    mirror = jnp.where(jax.random.bernoulli(flip_key, config.flip_probability), -1.0, 1.0)
    angle = config.rotation * jax.random.uniform(angle_key, minval=-1.0)
    scale = jax.random.uniform(scale_key, minval=config.scale_min, maxval=config.scale_max)
    shift_x, shift_y = config.shift * jax.random.uniform(shift_key, (2,), minval=-1.0)
    matrix = about_centre(stretch(mirror, 1.0), height, width)
    if config.random_padding:
        left, right, top, bottom = config.padding * jax.random.uniform(padding_key, (4,)) * jnp.array([width, width, height, height], float)
        matrix = padding(left, right, top, bottom, height, width) @ matrix
    matrix = about_centre(rotation(angle) @ stretch(scale, scale), height, width) @ matrix
    matrix = translation(shift_x * width, shift_y * height) @ matrix
    return Transform(matrix, config.blur * jax.random.uniform(blur_key) if config.random_blur else None)


def apply_transform(transform: Transform, image: Float[Array, "h w channels"]) -> Float[Array, "h w channels"]:
    """Warp the image, then blur it: linear in the image."""
    image = warp(image, transform.matrix)
    if transform.blur is None:
        return image
    sigma = jnp.maximum(transform.blur, 1e-3)  # a kernel of width zero would be 0 / 0
    return gaussian_blur(image, size=BLUR_SIZE, sigma=sigma)


def pull_back(
    transform: Transform, attribution: Float[Array, "h w channels"], kind: Literal["adjoint", "inverse"] = "adjoint"
) -> Float[Array, "h w channels"]:
    """Bring an attribution of the transformed image back to the image.

    Args:
        transform: the transform T.
        attribution: a linear form on transformed images, such as a gradient.
        kind: `adjoint`, T^T: the same form as one on images, `<T^T a, x> = <a, T x>`; or `inverse`, the inverse warp: the map moved back
            as a picture (a blur is not inverted). For rotations and flips the two agree up to interpolation; a scale s changes the
            adjoint's density by s^2.
    """
    if kind == "inverse":
        return warp(attribution, inverse_affine(transform.matrix))
    (result,) = jax.linear_transpose(lambda image: apply_transform(transform, image), attribution)(attribution)
    return result
