"""Sites that a program does not name, recognised by their form: residual sums, and softmaxes within operators.

residual    x + y, where y is computed from x by a layer with weights at least
softmax     exp(s), and its sum along one axis, which does nothing but divide
"""

from typing import NamedTuple

from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.rules import add, exponentials
from dave_jax.effective.trace.analysis import FROZEN, Analysis
from dave_jax.effective.trace.graph import Node
from dave_jax.effective.trace.kinds import origin
from dave_jax.effective.trace.rules import Linear


def residual_branch(analysis: Analysis, node: Node, rules: Decomposition) -> int | None:
    """Which operand of a residual sum is the branch; None if the node is no such sum, or the decomposition has no rule for those."""
    if rules.residual == add or node.name not in ("add", "add_any") or not all(analysis.infos[number].live for number in node.inputs):
        return None
    left, right = (origin(analysis.graph, number) for number in node.inputs)
    nodes = analysis.graph.between(*sorted((left, right)))
    if any(node in analysis.inner or ((role := analysis.roles.get(node)) is not None and role.layer) for node in nodes):
        return 0 if left > right else 1
    return None


class Softmax(NamedTuple):
    """A softmax within a program: the node of its exponentials, that of their sum, and the axis."""

    exponentials: Node
    total: Node
    axis: int


def softmaxes(analysis: Analysis, rules: Decomposition) -> dict[Node, Softmax]:
    """Every softmax of a graph by its two nodes; none if the decomposition has no rule for them."""
    if rules.softmax == exponentials:
        return {}
    made_by = {number: node for node in analysis.graph.nodes if node.name == "exp" for number in node.outputs}
    sums: dict[Node, list[Node]] = {node: [] for node in made_by.values()}
    for node in analysis.graph.nodes:
        if node.name == "reduce_sum" and node.inputs[0] in made_by:
            sums[made_by[node.inputs[0]]].append(node)
    found = {}
    for node, totals in sums.items():
        if len(totals) == 1 and len(axes := totals[0].params["axes"]) == 1 and _only_divides(analysis, totals[0].outputs[0]):
            found[node] = found[totals[0]] = Softmax(node, totals[0], int(axes[0]))
    return found


def _only_divides(analysis: Analysis, number: int) -> bool:
    """Whether a value, in whatever shape, does nothing but divide where a derivative is needed."""
    graph = analysis.graph
    if any(output == number and level > FROZEN for output, level in zip(graph.outputs, analysis.outputs, strict=True)):
        return False

    def divides(node: Node) -> bool:
        if node.name == "div":
            return node.inputs[1] == number != node.inputs[0]
        return origin(graph, node.outputs[0]) == origin(graph, number) and _only_divides(analysis, node.outputs[0])

    return all(divides(node) for node in graph.users.get(number, ()))


def is_of_exponentials(analysis: Analysis, number: int) -> bool:
    """Whether a value is an exponential, or linear in some."""
    waiting, seen = [number], set()
    while waiting:
        node = analysis.graph.makers.get(waiting.pop())
        if node is None or node in seen:
            continue
        if node.name == "exp":
            return True
        seen.add(node)
        role = analysis.roles.get(node)
        if role is not None and isinstance(role.behaviour, Linear):
            waiting += [node.inputs[i] for i in role.stream]
    return False
