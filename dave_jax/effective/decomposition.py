"""Decompositions: which derivative each part of a network gets, while its value stays what it is.

A network is linear but for a few kinds of *site*. At each site the layers build an operator from the data and apply it:

    site            operator                                         value
    normalisation   1 / sigma(x)                                     LayerNorm, RMSNorm
    activation      phi(x) / x, in closed form (GELU: Phi(x))        GELU, SiLU, QuickGELU
    attention       softmax(q k^T / sqrt(c))                         attention, attention pooling
    gate            phi(g(x))                                        SwiGLU's product
    linear          W                                                every matrix product with weights
    residual        x + f(x)                                         the sum of a residual branch

A `Decomposition` names a *rule* for every site: a function from operator to operator that keeps its values. `differentiate` changes
nothing, so that the gradient includes how the operator varies with x; `freeze` stops that. A new decomposition is one more value
of this class, and no model changes.

Example:
    >>> halves = Decomposition("halves", attention=freeze, activation=freeze)
    >>> resolve("effective").normalisation is freeze
    True
    >>> resolve(halves).name
    'halves'
"""

import dataclasses
import difflib
from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from dave_jax.effective.operators import Operator

Rule = Callable[[Operator], Operator]
"""A change of an operator's derivative: values are kept, `rule(op)(x) == op(x)`."""

Merge = Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]
"""A residual sum: `merge(x, branch)` has the value of `x + branch`."""


def differentiate(op: Operator) -> Operator:
    """Keep the operator's own derivative (the chain rule's operator variation)."""
    return op


def freeze(op: Operator) -> Operator:
    """Treat the operator as a constant: `d(A(x) x) = A(x) dx`."""
    return jax.lax.stop_gradient(op)


def add(x: Float[Array, "..."], branch: Float[Array, "..."]) -> Float[Array, "..."]:
    """The plain residual sum."""
    return x + branch


@dataclasses.dataclass(frozen=True)
class Decomposition:
    """A named rule for every site; see the module's table. Hashable when its rules are: pass module-level functions.

    Attributes:
        name: what to call it.
        normalisation, activation, attention, gate, linear: the rules of these sites.
        residual: how a residual branch is added.
    """

    name: str
    normalisation: Rule = differentiate
    activation: Rule = differentiate
    attention: Rule = differentiate
    gate: Rule = differentiate
    linear: Rule = differentiate
    residual: Merge = add


gradient = Decomposition("gradient")
"""Everything differentiated: the ordinary input gradient."""

effective = Decomposition("effective", normalisation=freeze, activation=freeze, attention=freeze, gate=freeze)
"""Everything that depends on the image frozen: the effective transformation W_eff of DAVE (arXiv 2602.06613, eq. 3)."""

presets: dict[str, Decomposition] = {preset.name: preset for preset in (gradient, effective)}
"""Decompositions by name. Add your own: `presets["mine"] = Decomposition("mine", ...)`."""


def resolve(decomposition: str | Decomposition) -> Decomposition:
    """The decomposition of that name, or the one given.

    Raises:
        ValueError: the name is not in `presets`.
    """
    if isinstance(decomposition, Decomposition):
        return decomposition
    if decomposition not in presets:
        near = difflib.get_close_matches(decomposition, presets, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"A decomposition is one of {sorted(presets)} or a Decomposition; got {decomposition!r}.{hint} "
            "Register your own with dave_jax.effective.decomposition.presets[name] = Decomposition(...)."
        )
    return presets[decomposition]
