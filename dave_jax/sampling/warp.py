"""The affine warp of an image: bilinear, zeros outside, pixel centres at integer coordinates.

Coordinates are `(x, y, 1)` in pixels, x to the right and y downwards; a matrix takes input coordinates to output coordinates.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective.precision import narrow, wide_dtype

Matrix = Float[Array, "3 3"]


def warp(image: Float[Array, "h w channels"], matrix: Matrix) -> Float[Array, "h w channels"]:
    """Move the image by an affine matrix: `output(p) = input(matrix^-1 p)`, interpolated bilinearly.

    Linear in the image; its adjoint, through `jax.vjp`, scatters each output pixel to the four pixels that it was read from. Four gathers
    of whole pixels: on a CPU about twenty times faster than `dm_pix.affine_transform`, which interpolates the channels as a third axis.

    Args:
        image: any channels.
        matrix: invertible, input (x, y, 1) to output, last row (0, 0, 1).

    Example:
        >>> image = jnp.arange(4.0).reshape(2, 2, 1)
        >>> one_right = jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> warp(image, one_right)[..., 0].tolist()
        [[0.0, 0.0], [0.0, 2.0]]
    """
    height, width, channels = image.shape
    dtype = wide_dtype(image)  # half precision counts no further than 256 pixels
    rows, columns = jnp.indices((height, width), dtype=dtype)
    # A matrix product is computed once. Else XLA may compute the places of the adjoint's weights and those of its indices with different
    # roundings, whose `floor` differs where they are nearly whole.
    places = jnp.stack([columns, rows, jnp.ones_like(rows)])
    x, y = jnp.tensordot(inverse_affine(matrix).astype(dtype)[:2], places, 1, precision="highest")
    left, top = jnp.floor(x), jnp.floor(y)
    pixels = image.reshape(height * width, channels)
    output = jnp.zeros_like(pixels)
    for corner_x, weight_x in ((left, 1.0 - (x - left)), (left + 1.0, x - left)):
        for corner_y, weight_y in ((top, 1.0 - (y - top)), (top + 1.0, y - top)):
            inside = (corner_x >= 0) & (corner_x <= width - 1) & (corner_y >= 0) & (corner_y <= height - 1)
            weight = narrow(jnp.where(inside, weight_x * weight_y, 0.0).reshape(-1, 1), image)
            index = jnp.clip(corner_y, 0, height - 1) * width + jnp.clip(corner_x, 0, width - 1)
            output += weight * pixels.at[index.astype(jnp.int32).ravel()].get(mode="promise_in_bounds")
    return output.reshape(image.shape)


WIDEST = 2.0
"""`reach` up to which `warp_gathering` is exact."""


def reach(rotation: float, scale: float) -> float:
    """How far, in output pixels along an axis, the pixels lie at most that are read from one input pixel: `scale (|cos| + |sin|)`.

    Args:
        rotation: the largest angle, in degrees.
        scale: the largest scale.

    Example:
        >>> round(reach(0.0, 1.1), 6), round(reach(90.0, 1.1), 6)
        (1.1, 1.555635)
    """
    angle = math.radians(min(rotation, 45.0))
    return scale * (math.cos(angle) + math.sin(angle))


@jax.custom_vjp
def warp_gathering(image: Float[Array, "h w channels"], matrix: Matrix) -> Float[Array, "h w channels"]:
    """`warp`, with its adjoint as a gather: no scatter, so the same bits every time, also where scatters are slow or race.

    Each input pixel q collects from the 4 x 4 output pixels p around its image, with weights
    `hat(x) hat(y)`, `(x, y) = matrix^-1 p - q`, `hat(u) = max(0, 1 - |u|)`. Exact where `|a| + |b| <= 2` for both rows (a, b) of the matrix
    (see `reach`). Not differentiable with respect to the matrix.
    """
    return warp(image, matrix)


def _forward(image, matrix):
    return warp(image, matrix), matrix


def _adjoint(matrix, cotangent):
    height, width, channels = cotangent.shape
    dtype = wide_dtype(cotangent)
    rows, columns = jnp.arange(height, dtype=dtype)[:, None], jnp.arange(width, dtype=dtype)[None, :]
    there, back = matrix.astype(dtype), inverse_affine(matrix).astype(dtype)
    left = jnp.floor(there[0, 0] * columns + there[0, 1] * rows + there[0, 2])
    top = jnp.floor(there[1, 0] * columns + there[1, 1] * rows + there[1, 2])
    pixels = cotangent.reshape(height * width, channels)
    total = jnp.zeros_like(pixels)
    for step_x in (-1.0, 0.0, 1.0, 2.0):
        for step_y in (-1.0, 0.0, 1.0, 2.0):
            x, y = left + step_x, top + step_y
            from_x = back[0, 0] * x + back[0, 1] * y + back[0, 2] - columns
            from_y = back[1, 0] * x + back[1, 1] * y + back[1, 2] - rows
            weight = jnp.maximum(0.0, 1.0 - jnp.abs(from_x)) * jnp.maximum(0.0, 1.0 - jnp.abs(from_y))
            inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
            index = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
            weight = narrow(jnp.where(inside, weight, 0.0).reshape(-1, 1), cotangent)
            total += weight * pixels.at[index.astype(jnp.int32).ravel()].get(mode="promise_in_bounds")
    return total.reshape(cotangent.shape), jnp.zeros_like(matrix)


warp_gathering.defvjp(_forward, _adjoint)


def inverse_affine(matrix: Matrix) -> Matrix:
    """The inverse of an affine matrix (last row (0, 0, 1)), in closed form: exact, and cheap inside a large program.

    Example:
        >>> inverse_affine(jnp.diag(jnp.array([2.0, 4.0, 1.0]))).diagonal().tolist()
        [0.5, 0.25, 1.0]
    """
    (a, b, shift_x), (c, d, shift_y) = matrix[0], matrix[1]
    determinant = a * d - b * c
    rows = [
        [d, -b, b * shift_y - d * shift_x],
        [-c, a, c * shift_x - a * shift_y],
        [jnp.zeros_like(a), jnp.zeros_like(a), determinant],
    ]
    return jnp.stack([jnp.stack(row) for row in rows]) / determinant
