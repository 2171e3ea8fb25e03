"""Small spatial transforms of an image: sample the parameters, then apply the deterministic transform.

A `Transform` is one affine matrix (flip, padding, rotation, scale and shift composed: one interpolation, not five) and a blur. Applying
it is linear in the image, so an attribution of the transformed image is pulled back to the clean one by the adjoint (DAVE, arXiv
2602.06613, slides: tau-dagger; the authors' code: autograd) or by the inverse warp (eq. 6).

Conventions: rotation in degrees, positive turns clockwise on the screen; shifts, padding as shares of the size; blur sigma in pixels.
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.config import DaveConfig, Scalar
from dave_jax.pytree import register_pytree
from dave_jax.sampling.blur import gaussian_blur
from dave_jax.sampling.warp import Matrix, inverse_affine, warp, warp_gathering

BLUR_SIZE = 9
"""Size of the blur's kernel in pixels."""


@dataclasses.dataclass(frozen=True)
class Transform:
    """A sampled transform: `matrix` takes input pixels (x, y, 1) to output pixels; `blur` is a sigma in pixels, or None for no blur."""

    matrix: Any
    blur: Any = None


register_pytree(Transform, ["matrix", "blur"])


def compose(*matrices: Matrix) -> Matrix:
    """The product of matrices: the last is the first to move a pixel. At full precision, which accelerators' products do not have.

    Example:
        >>> compose(translation(1.0, 0.0), stretch(2.0, 1.0))[0].tolist()
        [2.0, 0.0, 1.0]
    """
    return functools.reduce(functools.partial(jnp.matmul, precision="highest"), matrices)


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
    return compose(translation(x, y), matrix, translation(-x, -y))


def padding(left: Scalar, right: Scalar, top: Scalar, bottom: Scalar, height: int, width: int) -> Matrix:
    """Shrink the image so that it leaves borders of these many pixels, to be filled with zeros.

    Resizing maps pixel edges to pixel edges: centre x goes to `(x + 1/2) s + left - 1/2`, `s = (w - left - right) / w`.
    """
    x, y = (width - left - right) / width, (height - top - bottom) / height
    return compose(translation(left - 0.5, top - 0.5), stretch(x, y), translation(0.5, 0.5))


NUM_UNIFORMS = 10
"""How many numbers a transform is made from; see `transform_at`."""


def draw_uniforms(key: PRNGKeyArray) -> Float[Array, " 10"]:
    """Independent numbers of [0, 1) for `transform_at`."""
    keys = jax.random.split(key, 6)  # flip, rotation, scale, shift, padding, blur
    return jnp.concatenate([jax.random.uniform(key, (count,)) for key, count in zip(keys, (1, 1, 1, 2, 4, 1), strict=True)])


def transform_at(uniforms: Float[Array, " 10"], config: DaveConfig, height: int, width: int) -> Transform:
    """The transform that these numbers of [0, 1) stand for, for an image of that size, with the ranges of `config`.

    A horizontal flip with probability `flip_probability`; padding, if switched on; then about the centre one affine map: rotation
    U(-rotation, rotation), isotropic scale U(scale_min, scale_max), shift U(-shift, shift) of the size on each axis; a blur, if on.

    Args:
        uniforms: for flip, rotation, scale, shift in x and y, padding left, right, top and bottom, blur.
        config: the ranges.
        height, width: of the image, in pixels.

    Example:
        >>> still = DaveConfig(flip_probability=0.0, rotation=0.0, shift=0.0, scale_min=1.0, scale_max=1.0)
        >>> transform_at(jnp.zeros(10), still, 8, 8).matrix.round(6).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    mirror = jnp.where(uniforms[0] < config.flip_probability, -1.0, 1.0)
    angle = config.rotation * (2.0 * uniforms[1] - 1.0)
    scale = config.scale_min + (config.scale_max - config.scale_min) * uniforms[2]
    shift_x, shift_y = config.shift * (2.0 * uniforms[3:5] - 1.0)
    matrix = about_centre(stretch(mirror, 1.0), height, width)
    if config.random_padding:
        left, right, top, bottom = config.padding * uniforms[5:9] * jnp.array([width, width, height, height], float)
        matrix = compose(padding(left, right, top, bottom, height, width), matrix)
    matrix = compose(about_centre(compose(rotation(angle), stretch(scale, scale)), height, width), matrix)
    matrix = compose(translation(shift_x * width, shift_y * height), matrix)
    return Transform(matrix, config.blur * uniforms[9] if config.random_blur else None)


def sample_transform(key: PRNGKeyArray, config: DaveConfig, height: int, width: int) -> Transform:
    """Draw a transform: `transform_at` for independent numbers.

    Example:
        >>> sample_transform(jax.random.key(0), DaveConfig(), 8, 8).matrix.shape
        (3, 3)
    """
    return transform_at(draw_uniforms(key), config, height, width)


def apply_transform(
    transform: Transform, image: Float[Array, "h w channels"], adjoint: Literal["scatter", "gather"] = "scatter"
) -> Float[Array, "h w channels"]:
    """Warp the image, then blur it: linear in the image. `adjoint` is how derivatives go back: see `warp_gathering`."""
    image = (warp_gathering if adjoint == "gather" else warp)(image, transform.matrix)
    if transform.blur is None:
        return image
    sigma = jnp.maximum(transform.blur, 1e-3)  # a kernel of width zero would be 0 / 0
    return gaussian_blur(image, size=BLUR_SIZE, sigma=sigma)


def pull_back(
    transform: Transform,
    attribution: Float[Array, "h w channels"],
    kind: Literal["adjoint", "inverse"] = "adjoint",
    warp_adjoint: Literal["scatter", "gather"] = "scatter",
) -> Float[Array, "h w channels"]:
    """Bring an attribution of the transformed image back to the image.

    Args:
        transform: the transform T.
        attribution: a linear form on transformed images, such as a gradient.
        kind: `adjoint`, T^T: the same form as one on images, `<T^T a, x> = <a, T x>`; or `inverse`, the inverse warp: the map moved back
            as a picture (a blur is not inverted). For rotations and flips the two agree up to interpolation; a scale s changes the
            adjoint's density by s^2.
        warp_adjoint: of the warp, as in `apply_transform`.
    """
    if kind == "inverse":
        return warp(attribution, inverse_affine(transform.matrix))
    _, pull = jax.vjp(functools.partial(apply_transform, transform, adjoint=warp_adjoint), attribution)
    return pull(attribution)[0]
