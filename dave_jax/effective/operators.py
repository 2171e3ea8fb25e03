"""Linear operators: what a network does to its input once everything that depends on the image is fixed.

An operator `A` is a small immutable pytree with three methods,

    A(x)            the product A x, for x of shape `A.in_shape`
    A.transpose()   the operator A^T, with <A x, y> = <x, A^T y>
    A.as_matrix()   the dense matrix, shape (size of output, size of input), acting on flattened arrays

`in_shape` and `out_shape` are static, so operators pass through `jit`, `vmap` and `scan`. An operator may depend on the image
through its arrays (an attention matrix, 1/sigma); it is still linear in its argument.

The protocol follows lineax's `AbstractLinearOperator`; the names of the parts follow the DAVE paper (arXiv 2602.06613, eq. 2).

Example:
    >>> import jax.numpy as jnp
    >>> halve = Diagonal(jnp.array([0.5, 0.5]), (2,))
    >>> centre = Centering((2,))
    >>> Chain((centre, halve))(jnp.array([3.0, 1.0])).tolist()
    [0.5, -0.5]
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective.precision import product
from dave_jax.pytree import register_pytree

Shape = tuple[int, ...]
T = TypeVar("T")

Leaf = Any
"""An array. Not annotated with its shape: `scan` and `vmap` stack operators on further axes, and pytrees carry other things than arrays."""


class Operator(abc.ABC):
    """Base of all operators. Subclasses define `__call__`; the rest has a correct, slower default."""

    in_shape: Shape

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The product with `x`, an array of shape `in_shape`."""

    @property
    def out_shape(self) -> Shape:
        """The shape of the product."""
        return self.in_shape

    def transpose(self) -> "Operator":
        """The adjoint operator."""
        return Transposed(self)

    def as_matrix(self) -> Float[Array, "rows columns"]:
        """The dense matrix: `A.as_matrix() @ x.ravel() == A(x).ravel()`. For inspection and tests: it is large."""
        size = math.prod(self.in_shape)
        dtype = jnp.result_type(float, *(leaf for leaf in jax.tree.leaves(self) if jnp.issubdtype(leaf.dtype, jnp.floating)))
        columns = jax.vmap(lambda unit: self(unit.reshape(self.in_shape)).ravel())(jnp.eye(size, dtype=dtype))
        return columns.T

    def __matmul__(self, first: "Operator") -> "Chain":
        """`second @ first`: apply `first`, then `second`."""
        return Chain((first, self))


@dataclass_transform(frozen_default=True)
def operator(data: tuple[str, ...], meta: tuple[str, ...] = ("in_shape",)) -> Callable[[type[T]], type[T]]:
    """Make a class a frozen dataclass and a pytree: `data` fields are arrays or operators, `meta` fields static."""

    def decorate(cls: type[T]) -> type[T]:
        cls = dataclasses.dataclass(frozen=True)(cls)
        return register_pytree(cls, data, meta)

    return decorate


@operator(())
class Identity(Operator):
    """`I x = x`."""

    in_shape: Shape

    def __call__(self, x):
        return x

    def transpose(self):
        return self


@operator(("kernel",))
class Dense(Operator):
    """`x W` along the last axis; `kernel` is W, shape (in, out). In half precision it rounds `x` too (see `precision.product`)."""

    kernel: Leaf
    in_shape: Shape

    def __call__(self, x):
        return product(x, self.kernel)

    @property
    def out_shape(self):
        return (*self.in_shape[:-1], self.kernel.shape[-1])

    def transpose(self):
        return Dense(jnp.swapaxes(self.kernel, -1, -2), self.out_shape)


@operator(("scale",))
class Diagonal(Operator):
    """`s * x`, with `scale` s of the rank of x and broadcastable to it."""

    scale: Leaf
    in_shape: Shape

    def __call__(self, x):
        return x * self.scale

    def transpose(self):
        return self


@operator(())
class Centering(Operator):
    """`H x = x - mean(x)` along the last axis, H = I - 1 1^T / d: symmetric, and never formed as a matrix."""

    in_shape: Shape

    def __call__(self, x):
        return x - jnp.mean(x, axis=-1, keepdims=True)

    def transpose(self):
        return self


@operator(("weights", "total"))
class Mixing(Operator):
    """Attention as a linear map of the values: `A v`, with `A = weights / total`, one matrix for each head.

    `weights` (heads, queries, keys) are the exponentials of softmax and `total` (heads, queries, 1) their sums: dividing
    after the product touches `head_dim` numbers a query instead of `keys`. `matrix` is the attention matrix itself.
    """

    weights: Leaf
    total: Leaf
    in_shape: Shape

    def __call__(self, x):
        product = jnp.matmul(self.weights, x, preferred_element_type=self.total.dtype)
        return (product / self.total).astype(x.dtype)

    @property
    def matrix(self) -> Float[Array, "heads queries keys"]:
        """The attention matrix; its rows sum to one."""
        return self.weights / self.total

    @property
    def out_shape(self):
        return (self.in_shape[0], self.weights.shape[-2], self.in_shape[-1])

    def transpose(self):
        matrix = jnp.swapaxes(self.matrix, -1, -2)
        return Mixing(matrix, jnp.ones_like(matrix[..., :1]), self.out_shape)


def scale_derivative(tree: Any, factor: float) -> Any:
    """The same arrays, bit for bit, with `factor` times their derivative.

    Example:
        >>> jax.grad(lambda x: scale_derivative(x, 0.25) ** 2)(3.0).item()
        1.5
    """

    def scale(leaf):
        fixed = jax.lax.stop_gradient(leaf)
        return fixed + factor * (leaf - fixed)  # exact whatever the factor, which `factor * x + (1 - factor) * x` is not

    return jax.tree.map(scale, tree)


@operator(("original",), ("in_shape", "share"))
class Shared(Operator):
    """`A x` with a share of its derivative: `d(A x) = share A dx`. A product that is shared between its two factors.

    The value, and so the adjoint, is that of `original`.
    """

    original: Operator
    in_shape: Shape
    share: float

    def __call__(self, x):
        return self.original(scale_derivative(x, self.share))

    @property
    def out_shape(self):
        return self.original.out_shape

    def transpose(self):
        return self.original.transpose()


@operator(("terms",), ())
class Sum(Operator):
    """`sum_i A_i x` of operators with equal shapes."""

    terms: tuple[Operator, ...]

    def __call__(self, x):
        first, *rest = self.terms
        return sum((term(x) for term in rest), start=first(x))

    @property
    def in_shape(self):  # pyright: ignore[reportIncompatibleVariableOverride] that of its parts, not a field
        return self.terms[0].in_shape

    @property
    def out_shape(self):
        return self.terms[0].out_shape

    def transpose(self):
        return Sum(tuple(term.transpose() for term in self.terms))


@operator(("links",), ())
class Chain(Operator):
    """`A_n ... A_2 A_1 x`: the links in the order in which they act."""

    links: tuple[Operator, ...]

    def __call__(self, x):
        for link in self.links:
            x = link(x)
        return x

    @property
    def in_shape(self):  # pyright: ignore[reportIncompatibleVariableOverride] that of its parts, not a field
        return self.links[0].in_shape

    @property
    def out_shape(self):
        return self.links[-1].out_shape

    def transpose(self):
        return Chain(tuple(link.transpose() for link in reversed(self.links)))


@operator(("original",), ())
class Transposed(Operator):
    """The adjoint of any operator, by `jax.linear_transpose`."""

    original: Operator

    def __call__(self, x):
        template = jax.ShapeDtypeStruct(self.original.in_shape, x.dtype)
        (result,) = jax.linear_transpose(self.original, template)(x)
        return result

    @property
    def in_shape(self):  # pyright: ignore[reportIncompatibleVariableOverride] that of its parts, not a field
        return self.original.out_shape

    @property
    def out_shape(self):
        return self.original.in_shape

    def transpose(self):
        return self.original


def parts(op: Operator) -> Iterator[Operator]:
    """An operator and, one after the other, all that it is made of."""
    yield op
    for inner in (*getattr(op, "links", ()), *getattr(op, "terms", ()), *filter(None, [getattr(op, "original", None)])):
        yield from parts(inner)


def attention_matrix(op: Operator) -> Float[Array, "heads queries keys"]:
    """The attention matrix of the `Mixing` within an operator.

    Raises:
        ValueError: there is none.

    Example:
        >>> attention_matrix(Chain((Identity((1, 1, 1)), Mixing(jnp.ones((1, 1, 1)), 2 * jnp.ones((1, 1, 1)), (1, 1, 1))))).item()
        0.5
    """
    for part in parts(op):
        if isinstance(part, Mixing):
            return part.matrix
    raise ValueError(f"An attention matrix is that of a Mixing; {type(op).__name__} holds none.")
