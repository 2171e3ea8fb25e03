"""Operators on feature maps (h, w, channels) that look through a window: convolutions, pooling.

None depends on the image but `Pick`, which takes the entries that a maximum chose. The protocol is that of `operators`.

Example:
    >>> image = jnp.arange(16.0).reshape(4, 4, 1)
    >>> AveragePool(image.shape, 2)(image)[..., 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dave_jax.effective.operators import Leaf, Operator, Shape, operator


def num_windows(length: int, window: int, stride: int, padding: int) -> int:
    """How many windows fit along an axis."""
    return (length + 2 * padding - window) // stride + 1


def views(x: Array, window: tuple[int, int], stride: int, rows: int, columns: int) -> Iterator[Array]:
    """For each place in a window, row by row, what all windows hold there: (rows, columns, channels)."""
    for i in range(window[0]):
        for j in range(window[1]):
            yield x[i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]


@operator(("kernel",), ("in_shape", "stride", "padding", "groups"))
class Conv(Operator):
    """A convolution: `kernel` (rows, columns, in / groups, out), `padding` zeros on every side."""

    kernel: Leaf
    in_shape: Shape
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def __call__(self, x):
        return jax.lax.conv_general_dilated(
            x[None],
            self.kernel,
            (self.stride, self.stride),
            ((self.padding, self.padding),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )[0]

    @property
    def out_shape(self):
        return _convolved(self)


@operator(("kernel",), ("in_shape", "stride", "padding"))
class Depthwise(Operator):
    """A convolution of each channel for itself: `kernel` (rows, columns, 1, channels).

    A sum of shifted copies: XLA fuses it, where its grouped convolution on a CPU takes a hundred times as long.
    """

    kernel: Leaf
    in_shape: Shape
    stride: int = 1
    padding: int = 0

    def __call__(self, x):
        padded = jnp.pad(x, ((self.padding, self.padding),) * 2 + ((0, 0),))
        window = self.kernel.shape[:2]
        weights = self.kernel.reshape(-1, 1, 1, self.kernel.shape[-1])
        shifted = views(padded, window, self.stride, *self.out_shape[:2])
        return sum((view * weight for view, weight in zip(shifted, weights, strict=True)), start=jnp.zeros((), x.dtype))

    @property
    def out_shape(self):
        return _convolved(self)


def _convolved(op: Conv | Depthwise) -> Shape:
    rows, columns, _, channels = op.kernel.shape[-4:]
    height, width, _ = op.in_shape
    return (num_windows(height, rows, op.stride, op.padding), num_windows(width, columns, op.stride, op.padding), channels)


@operator((), ("in_shape", "window"))
class AveragePool(Operator):
    """The mean over windows side by side; those at the right and lower edges may be cut off, and average what is there."""

    in_shape: Shape
    window: int

    def __call__(self, x):
        rows, columns, _ = self.out_shape
        height, width, _ = self.in_shape
        padded = jnp.pad(x, ((0, rows * self.window - height), (0, columns * self.window - width), (0, 0)))
        total = sum(views(padded, (self.window, self.window), self.window, rows, columns), start=jnp.zeros((), x.dtype))
        there = np.minimum(self.window, height - self.window * np.arange(rows))[:, None, None]
        there = there * np.minimum(self.window, width - self.window * np.arange(columns))[None, :, None]
        return total / there.astype(x.dtype)

    @property
    def out_shape(self):
        return (-(-self.in_shape[0] // self.window), -(-self.in_shape[1] // self.window), self.in_shape[2])


@operator(("index",))
class Pick(Operator):
    """One entry of the input for each of the output: `index` counts the input's entries row by row."""

    index: Leaf
    in_shape: Shape

    def __call__(self, x):
        return x.reshape(-1).at[self.index].get(mode="promise_in_bounds")

    @property
    def out_shape(self):
        return self.index.shape[-3:]


def index_of_maximum(x: Float[Array, "h w channels"], window: int, stride: int, padding: int) -> Int[Array, "rows columns channels"]:
    """Where each window has its largest entry; of equal ones the first.

    Example:
        >>> index_of_maximum(jnp.array([[[1.0], [3.0]], [[2.0], [0.0]]]), 2, 2, 0).ravel().tolist()
        [1]
    """
    height, width, _ = x.shape
    rows, columns = num_windows(height, window, stride, padding), num_windows(width, window, stride, padding)
    edge = ((padding, padding), (padding, padding), (0, 0))
    values = views(jnp.pad(x, edge, constant_values=-jnp.inf), (window, window), stride, rows, columns)
    places = views(jnp.pad(jnp.arange(x.size).reshape(x.shape), edge), (window, window), stride, rows, columns)
    largest, index = next(values), next(places)
    for value, place in zip(values, places, strict=True):
        index, largest = jnp.where(value > largest, place, index), jnp.maximum(largest, value)
    return index
