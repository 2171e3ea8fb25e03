"""How each primitive acts on the stream.

    Linear        the stream goes through, along some operands: sums, shapes, gathers; piecewise linear ones keep their own derivative
    Product       bilinear in two operands: one is the stream, the other its operator
    Elementwise   a nonlinear function of every element: an operator, or a multiplier of the stream by its secant phi(x) / x
    Opaque        nonlinear otherwise: an operator and never the stream
    Step          piecewise constant: comparisons, indices, rounding

A primitive without a rule may act among operators; on the stream it is an error. `rule` adds one.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Linear:
    """Linear, or piecewise linear, jointly in some operands; the others are constants or operators.

    Attributes:
        stream: the operands along which the stream goes; None for all.
        bent: piecewise linear (`max`), which counts as a weak nonlinearity when a product asks which side is the operator.
        pointwise: element by element, so that output and operand belong to one place.
        reduces: sums over elements.
        reshapes: the same elements in another shape, so that they keep their place.
    """

    stream: tuple[int, ...] | None = None
    bent: bool = False
    pointwise: bool = False
    reduces: bool = False
    reshapes: bool = False


@dataclasses.dataclass(frozen=True)
class Product:
    """Bilinear in operands 0 and 1 (of a division: linear in the first, the second an operator).

    Attributes:
        contracts: sums over elements, as a matrix product does.
        divides: operand 1 divides.
    """

    contracts: bool = False
    divides: bool = False


@dataclasses.dataclass(frozen=True)
class Elementwise:
    """A nonlinear function of every element. `vanishes`: zero at zero, so that the secant leaves no constant."""

    vanishes: bool = False


@dataclasses.dataclass(frozen=True)
class Opaque:
    """Nonlinear, and no function of single elements: it can be an operator and nothing else."""


@dataclasses.dataclass(frozen=True)
class Step:
    """Piecewise constant: its derivative is zero."""


Behaviour = Linear | Product | Elementwise | Opaque | Step
Rule = Callable[[Mapping[str, Any], tuple[bool, ...]], Behaviour]
"""From a primitive's parameters, and which of its operands depend on the image, to how it acts."""

RULES: dict[str, Rule] = {}


def rule(primitive: str) -> Callable[[Rule], Rule]:
    """Register how a primitive acts on the stream, for `decompose`; replaces what was registered before.

    The decorated function takes the primitive's parameters and a tuple that says which operands depend on the image, and returns one of
    `Linear`, `Product`, `Elementwise`, `Opaque`, `Step`.

    Args:
        primitive: its name, as an error of `decompose` gives it.

    Example:
        >>> from dave_jax.effective.trace.rules import Linear
        >>> @rule("my_fast_gather")
        ... def _(params, live):
        ...     return Linear(stream=(0,))
    """

    def register(function: Rule) -> Rule:
        RULES[primitive] = function
        return function

    return register


def _register(behaviour: Behaviour, names: str) -> None:
    for name in names.split():
        rule(name)(lambda params, live: behaviour)


_register(Linear(pointwise=True), "add sub neg add_any copy copy_p reduce_precision real imag conj complex name")
_register(Linear(), "concatenate pad stack unstack optimization_barrier psum psum_invariant unreduced_psum pmean")
_register(
    Linear(stream=(0,)),
    "rev slice split dynamic_slice gather fft tile reduce_window_sum select_and_scatter_add all_gather all_gather_invariant all_to_all "
    "ppermute reduce_scatter",
)
_register(
    Linear(stream=(0,), reshapes=True),
    "reshape transpose broadcast_in_dim squeeze expand_dims pvary pbroadcast sharding_constraint layout_constraint device_put reshard",
)
_register(Linear(stream=(0,), reduces=True), "reduce_sum cumsum")
_register(Linear(stream=(0, 1)), "dynamic_update_slice")
_register(Linear(stream=(0, 2)), "scatter scatter-add scatter-sub")
_register(Linear(stream=(1,)), "triangular_solve")
_register(Linear(bent=True, pointwise=True), "max min abs clamp custom_jvp_call")
_register(Linear(bent=True, reduces=True), "reduce_max reduce_min cummax cummin reduce_window_max reduce_window_min")
_register(Linear(stream=(0,), bent=True), "top_k approx_top_k")
_register(Linear(stream=(0, 2), bent=True), "scatter-max scatter-min")
_register(Product(), "mul")
_register(Product(divides=True), "div")
_register(Product(contracts=True), "dot_general conv_general_dilated ragged_dot_general")
_register(Elementwise(vanishes=True), "tanh sin erf expm1 log1p asinh sinh atan tan asin atanh sqrt cbrt square")
_register(Elementwise(), "exp exp2 log logistic erfc cos cosh acos acosh rsqrt erf_inv digamma lgamma pow bessel_i0e bessel_i1e")
_register(
    Opaque(), "atan2 rem nextafter reduce_prod cumprod cumlogsumexp mulhi scatter-mul cholesky lu qr svd eigh eig custom_linear_solve"
)
_register(
    Step(),
    "sign floor ceil round is_finite eq ne lt le gt ge eq_to lt_to le_to and or not xor argmax argmin stop_gradient reduce_and reduce_or "
    "reduce_xor shift_left shift_right_logical shift_right_arithmetic population_count clz bitcast_convert_type",
)


@rule("select_n")
def _select(params, live):
    return Linear(stream=tuple(range(1, len(live))), bent=live[0], pointwise=True)


@rule("convert_element_type")
def _convert(params, live):
    return Linear(pointwise=True)  # a conversion to integers gives values without derivative, whatever the rule


@rule("integer_pow")
def _integer_pow(params, live):
    return Elementwise(vanishes=params["y"] > 0)


@rule("sort")
def _sort(params, live):
    return Linear(bent=True)
