"""Operators on feature maps (h, w, channels) that move their places: rolling, and room at the lower and right edge.

None depends on the image. The protocol is that of `operators`.

Example:
    >>> Roll((1, 3, 1), (0, 1))(jnp.array([[[1.0], [2.0], [3.0]]])).ravel().tolist()
    [2.0, 3.0, 1.0]
"""

import jax.numpy as jnp

from dave_jax.effective.operators import Operator, Shape, operator


@operator((), ("in_shape", "shift"))
class Roll(Operator):
    """Every place takes what lay `shift` = (rows, columns) below and to its right; what leaves at one edge comes back at the other."""

    in_shape: Shape
    shift: tuple[int, int]

    def __call__(self, x):
        return jnp.roll(x, (-self.shift[0], -self.shift[1]), (0, 1))

    def transpose(self):
        return Roll(self.in_shape, (-self.shift[0], -self.shift[1]))


@operator((), ("in_shape", "size"))
class Extend(Operator):
    """Zeros below and to the right, up to `size` = (rows, columns). Its transpose is `Trim`."""

    in_shape: Shape
    size: Shape

    def __call__(self, x):
        return jnp.pad(x, ((0, self.size[0] - self.in_shape[0]), (0, self.size[1] - self.in_shape[1]), (0, 0)))

    @property
    def out_shape(self):
        return (*self.size, self.in_shape[2])

    def transpose(self):
        return Trim(self.out_shape, self.in_shape[:2])


@operator((), ("in_shape", "size"))
class Trim(Operator):
    """The upper left `size` = (rows, columns). Its transpose is `Extend`."""

    in_shape: Shape
    size: Shape

    def __call__(self, x):
        return x[: self.size[0], : self.size[1]]

    @property
    def out_shape(self):
        return (*self.size, self.in_shape[2])

    def transpose(self):
        return Extend(self.out_shape, self.in_shape[:2])
