"""Elementwise functions within a program: from the value that they start from, their root, to the node that ends them.

The secant of an activation is taken of the whole chain, `log(1 + exp(x))` and not `log`, which has no value at zero.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.core import Tracer

from dave_jax.effective.trace.graph import Graph, Node
from dave_jax.effective.trace.kinds import Info
from dave_jax.effective.trace.rules import RULES, Behaviour, Elementwise, Linear, Product, Step

Infos = Mapping[int, Info]


def root_of(graph: Graph, infos: Infos, node: Node) -> int | None:
    """The value of which a node's output is an elementwise function; the node's own operand if there are several; None without either."""
    roots = infos[node.outputs[0]].roots or frozenset()
    if len(roots) != 1:
        roots = frozenset(number for number in node.inputs if infos[number].live)
    if len(roots) != 1:
        return None
    (root,) = roots
    return root if graph.avals[root].shape == graph.avals[node.outputs[0]].shape else None


def chain(graph: Graph, infos: Infos, node: Node, root: int) -> list[Node]:
    """The elementwise nodes that lead from `root` to a node, in order."""
    reached, members = {root}, []
    for one in graph.nodes[: graph.nodes.index(node) + 1]:
        if reached.intersection(one.inputs) and _is_elementwise(infos, one):
            reached.update(one.outputs)
            members.append(one)
    needed, kept = set(node.outputs), []
    for one in reversed(members):
        if needed.intersection(one.outputs):
            needed.update(one.inputs)
            kept.append(one)
    return kept[::-1]


def _behaviour(infos: Infos, node: Node) -> Behaviour | None:
    find = RULES.get(node.name)
    return None if find is None else find(node.params, tuple(infos[number].live for number in node.inputs))


def _is_elementwise(infos: Infos, node: Node) -> bool:
    match behaviour := _behaviour(infos, node):
        case Product():
            return not behaviour.contracts
        case Linear():
            return behaviour.pointwise
        case Step():
            return not node.name.startswith(("arg", "reduce"))
    return isinstance(behaviour, Elementwise)


def value_at_zero(graph: Graph, infos: Infos, nodes: Sequence[Node], root: int) -> Literal["zero", "constant", "singular"]:
    """What a chain is where its root is zero: zero if the primitives say so, singular if known constants give no finite number."""
    zero = {root}
    for node in nodes:
        operands = [number in zero for number in node.inputs]
        match behaviour := _behaviour(infos, node):
            case Product():
                passes = (not behaviour.divides and any(operands)) or operands == [True, False]
            case Elementwise():
                passes = behaviour.vanishes and all(operands)
            case Linear():  # relu is zero at zero, somebody's max(x, 1) is not
                passes = all(operands) and node.name != "custom_jvp_call"
            case _:
                passes = False
        if passes:
            zero.update(node.outputs)
    if nodes[-1].outputs[0] in zero:
        return "zero"
    return _computed_at_zero(graph, nodes, root)


def _computed_at_zero(graph: Graph, nodes: Sequence[Node], root: int) -> Literal["zero", "constant", "singular"]:
    """The same, computed where the constants are known numbers; where they are not, a guess from the first primitive.

    One element will do, but not for calls, which are made for the shape that they have.
    """
    made = {root}.union(*(node.outputs for node in nodes))
    known = {number: graph.constants.get(number) for node in nodes for number in node.inputs if number not in made}
    if any(value is None or isinstance(value, Tracer) or jnp.ndim(value) for value in known.values()):
        return "singular" if nodes[0].name in ("log", "rsqrt", "digamma", "lgamma") else "constant"
    shape = graph.avals[root].shape if any(node.name == "custom_jvp_call" for node in nodes) else ()
    with jax.ensure_compile_time_eval():
        values: dict[int, Any] = {root: jnp.zeros(shape, graph.avals[root].dtype)} | known
        for node in nodes:
            values.update(zip(node.outputs, node.bind(*(values[number] for number in node.inputs)), strict=True))
        result = values[nodes[-1].outputs[0]]
        return "singular" if not jnp.isfinite(result).all() else "constant" if jnp.any(result) else "zero"
