"""Operators on tokens: rearranging the entries of an array, selecting, padding and averaging tokens (tokens, width).

None depends on the image; each is its own adjoint's partner. The protocol is that of `operators`.

Example:
    >>> Select((3, 1), 1, 3)(jnp.array([[1.0], [2.0], [3.0]])).tolist()
    [[2.0], [3.0]]
"""

import jax.numpy as jnp

from dave_jax.effective.operators import Operator, Shape, operator


@operator((), ("in_shape", "split", "order", "shape"))
class Rearrange(Operator):
    """A permutation of the entries: reshape to `split`, transpose the axes by `order`, reshape to `shape`."""

    in_shape: Shape
    split: Shape
    order: Shape
    shape: Shape

    def __call__(self, x):
        return x.reshape(self.split).transpose(self.order).reshape(self.shape)

    @property
    def out_shape(self):
        return self.shape

    def transpose(self):
        inverse = tuple(self.order.index(axis) for axis in range(len(self.order)))
        return Rearrange(self.shape, tuple(self.split[axis] for axis in self.order), inverse, self.in_shape)


@operator((), ("in_shape", "before", "after"))
class Pad(Operator):
    """Room for other tokens: `before` zero rows in front of the tokens, `after` behind. Its transpose is `Select`."""

    in_shape: Shape
    before: int
    after: int

    def __call__(self, x):
        return jnp.pad(x, ((self.before, self.after), (0, 0)))

    @property
    def out_shape(self):
        return (self.before + self.in_shape[0] + self.after, self.in_shape[1])

    def transpose(self):
        return Select(self.out_shape, self.before, self.before + self.in_shape[0])


@operator((), ("in_shape", "start", "stop"))
class Select(Operator):
    """Tokens `start` to `stop` (exclusive). Its transpose is `Pad`."""

    in_shape: Shape
    start: int
    stop: int

    def __call__(self, x):
        return x[self.start : self.stop]

    @property
    def out_shape(self):
        return (self.stop - self.start, self.in_shape[1])

    def transpose(self):
        return Pad(self.out_shape, self.start, self.in_shape[0] - self.stop)


@operator(())
class Average(Operator):
    """The mean over tokens, kept as one token: (n, d) to (1, d)."""

    in_shape: Shape

    def __call__(self, x):
        return jnp.mean(x, axis=0, keepdims=True)

    @property
    def out_shape(self):
        return (1, *self.in_shape[1:])


@operator(())
class Opposite(Operator):
    """`x` beside `-x` along the last axis: (..., c) to (..., 2 c)."""

    in_shape: Shape

    def __call__(self, x):
        return jnp.concatenate([x, -x], axis=-1)

    @property
    def out_shape(self):
        return (*self.in_shape[:-1], 2 * self.in_shape[-1])
