"""Programs as graphs: a jaxpr with the calls within it written out, its values numbered.

`jit`, `custom_jvp`, `custom_vjp` and the like vanish; what repeats or chooses (`scan`, `while`, `cond`, `remat2`, `shard_map`) stays a node
with graphs of its own. Numbers, no `Var`: JAX shares one jaxpr between the calls of a function.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.extend.core as jex
from jax.extend import source_info_util

INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "custom_vmap_call": "call",
    "custom_lin": "call_jaxpr",
    "composite": "jaxpr",
}
"""Calls, and the parameter that holds what they call."""

NESTED = ("scan", "while", "cond", "remat2", "checkpoint", "remat", "shard_map")
"""Primitives whose graphs stay their own."""

BENT = frozenset({"max", "min", "abs", "clamp", "select_n", "gt", "ge", "lt", "le", "eq", "ne"})
LEVEL = frozenset({"mul", "div", "neg", "sub", "add", "convert_element_type", "broadcast_in_dim", "copy", "reshape"})


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One primitive, applied.

    Attributes:
        equation: JAX's own record of it.
        inputs, outputs: numbers of values.
        graphs: of the nested primitives, what they run.
        where: the user's line, `file:line (function)`.
    """

    equation: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    graphs: tuple["Graph", ...] = ()
    where: str = ""

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.equation.primitive.name

    @property
    def params(self) -> dict[str, Any]:
        """The primitive's parameters."""
        return self.equation.params

    def bind(self, *values: Any) -> list[Any]:
        """The primitive of these values, as JAX computes and differentiates it."""
        if any(hasattr(parameter, "eqns") or hasattr(parameter, "jaxpr") for parameter in jax.tree.leaves(list(self.params.values()))):
            return _bind_call(self.equation, values)
        result = self.equation.primitive.bind(*values, **self.params)
        return list(result) if self.equation.primitive.multiple_results else [result]


def _bind_call(equation: Any, values: Sequence[Any]) -> list[Any]:
    """Primitives that hold functions: JAX knows how to call them from an equation."""
    given = [(atom, value) for atom, value in zip(equation.invars, values, strict=True) if not isinstance(atom, jex.Literal)]
    unique = dict(given)
    jaxpr = jex.Jaxpr((), list(unique), equation.outvars, [equation], debug_info=_debug_info(len(unique), len(equation.outvars)))
    return jex.jaxpr_as_fun(jex.ClosedJaxpr(jaxpr, ()))(*unique.values())


def _debug_info(num_inputs: int, num_outputs: int) -> Any:
    return jex.DebugInfo("decompose", "one equation", ("",) * num_inputs, ("",) * num_outputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A program without calls.

    Attributes:
        inputs, outputs: numbers of values.
        nodes: in the order in which they run; only those that an output needs.
        constants: values that are known: literals and what the function closes over.
        avals: shape and type of every value.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    nodes: tuple[Node, ...]
    constants: dict[int, Any]
    avals: dict[int, Any]

    @functools.cached_property
    def makers(self) -> dict[int, Node]:
        """The node that each computed value comes from."""
        return {number: node for node in self.nodes for number in node.outputs}

    @functools.cached_property
    def users(self) -> dict[int, list[Node]]:
        """The nodes that take each value."""
        found: dict[int, list[Node]] = {}
        for node in self.nodes:
            for number in dict.fromkeys(node.inputs):
                found.setdefault(number, []).append(node)
        return found

    def between(self, source: int, number: int) -> list[Node]:
        """The nodes by which a value is computed from another, in order; none if it is not.

        Numbers grow along a program, so that the search ends at the source's.
        """
        waiting, before = [number], set()
        while waiting:
            one = waiting.pop()
            node = self.makers.get(one)
            if one > source and node is not None and node not in before:
                before.add(node)
                waiting += node.inputs
        reached, found = {source}, []
        for node in sorted(before, key=lambda node: node.outputs[0]):
            if not reached.isdisjoint(node.inputs):
                reached.update(node.outputs)
                found.append(node)
        return found


class _Builder:
    def __init__(self):
        self.nodes: list[Node] = []
        self.constants: dict[int, Any] = {}
        self.avals: dict[int, Any] = {}

    def value(self, aval: Any) -> int:
        self.avals[number := len(self.avals)] = aval
        return number

    def constant(self, aval: Any, known: Any) -> int:
        self.constants[number := self.value(aval)] = known
        return number

    def run(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[int], caller: str = "an unknown line") -> list[int]:
        """Append the equations of a jaxpr, called from that line; give the numbers of its outputs."""
        numbers = dict(zip(jaxpr.invars, inputs, strict=True))
        numbers |= {var: self.constant(var.aval, const) for var, const in zip(jaxpr.constvars, consts, strict=True)}

        def read(atom: Any) -> int:
            return self.constant(atom.aval, atom.val) if isinstance(atom, jex.Literal) else numbers[atom]

        for equation in jaxpr.eqns:
            arguments = [read(atom) for atom in equation.invars]
            where = source_info_util.summarize(equation.source_info) or caller
            parameter = INLINED.get(equation.primitive.name)
            if parameter and not _is_kinked(equation):
                called = equation.params[parameter]
                results = self.run(called.jaxpr, called.consts, arguments, where)
            else:
                results = [self.value(var.aval) for var in equation.outvars]
                self.nodes.append(Node(equation, tuple(arguments), tuple(results), _graphs(equation), where))
            numbers.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]


def _is_kinked(equation: Any) -> bool:
    """Whether a `custom_jvp` is piecewise linear, such as `jax.nn.relu`, whose own derivative at the kink is to be kept."""
    if equation.primitive.name != "custom_jvp_call" or len(equation.invars) != 1:
        return False
    builder = _Builder()
    called = equation.params["call_jaxpr"]
    builder.run(called.jaxpr, called.consts, [builder.value(var.aval) for var in called.jaxpr.invars])
    names = {node.name for node in builder.nodes}
    return bool(names & BENT) and names <= BENT | {"convert_element_type", "broadcast_in_dim"}


def _graphs(equation: Any) -> tuple[Graph, ...]:
    params = equation.params
    match equation.primitive.name:
        case "cond":
            return tuple(build(branch) for branch in params["branches"])
        case "while":
            return (build(params["cond_jaxpr"]), build(params["body_jaxpr"]))
        case name if name in NESTED:
            return (build(params["jaxpr"]),)
    return ()


def build(jaxpr: Any) -> Graph:
    """The graph of a jaxpr, closed or without constants.

    Example:
        >>> import jax.numpy as jnp
        >>> [node.name for node in build(jax.make_jaxpr(jax.jit(lambda x: 3 * jax.nn.silu(x)))(jnp.ones(2))).nodes]
        ['logistic', 'mul', 'mul']
    """
    consts = getattr(jaxpr, "consts", ())
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    builder = _Builder()
    inputs = [builder.value(var.aval) for var in jaxpr.invars]
    outputs = builder.run(jaxpr, consts, inputs)
    needed, nodes = set(outputs), []
    for node in reversed(builder.nodes):
        if needed.intersection(node.outputs) or node.equation.effects:
            needed.update(node.inputs)
            nodes.append(node)
    return Graph(tuple(inputs), tuple(outputs), tuple(reversed(nodes)), builder.constants, builder.avals)
