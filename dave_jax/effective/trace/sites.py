"""Sites that a program does not name, recognised by their form: residual sums, and softmaxes within operators.

residual    x + y, where y is computed from x by a layer with weights at least
softmax     exp(s - max s), and its sum along one axis, the same as that of the maximum
"""

from typing import NamedTuple

from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.rules import add, exponentials
from dave_jax.effective.trace.analysis import Analysis
from dave_jax.effective.trace.graph import Node
from dave_jax.effective.trace.kinds import origin


def is_residual(analysis: Analysis, node: Node, rules: Decomposition) -> bool:
    """Whether a node is a residual sum, and the decomposition has a rule for those."""
    if rules.residual == add or node.name not in ("add", "add_any") or not all(analysis.infos[number].live for number in node.inputs):
        return False
    left, right = (origin(analysis.graph, number) for number in node.inputs)
    return _is_branch(analysis, left, right) or _is_branch(analysis, right, left)


def _is_branch(analysis: Analysis, number: int, source: int) -> bool:
    """Whether a value is computed from another, with a layer between them."""
    reached, beyond = {source}, set()
    for node in analysis.graph.nodes:
        role = analysis.roles.get(node)
        if not reached.isdisjoint(node.inputs) and (node in analysis.inner or (role is not None and role.layer)):
            beyond.update(node.outputs)
        elif not beyond.isdisjoint(node.inputs):
            beyond.update(node.outputs)
        if not reached.isdisjoint(node.inputs):
            reached.update(node.outputs)
    return number in beyond


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
        if len(totals) == 1 and len(axes := totals[0].params["axes"]) == 1:
            found[node] = found[totals[0]] = Softmax(node, totals[0], int(axes[0]))
    return found
