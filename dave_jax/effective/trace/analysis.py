"""The forward pass over a program: every value classified, also within loops and branches.

Kinds depend on structure alone, so that this happens once, while JAX traces.
"""

import collections
import dataclasses
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from dave_jax.effective.trace.graph import Graph, Node
from dave_jax.effective.trace.kinds import DEAD, Info, Policy, Role, classify, join
from dave_jax.effective.trace.loops import trip_count

FROZEN = 0
"""The least that is needed of a value; see `demand`."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One site that the analysis found.

    Attributes:
        kind: `operator`, `multiplier` (an activation's secant), `ambiguous` (a product of two streams), `leak`, or `rule` (a residual
            sum or a softmax that has a rule of its own).
        site: the site of the decomposition whose rule applies.
        primitive: what computes it.
        shape: of the operator, or of what leaks.
        where: the line of the source.
        note: how an ambiguous product was resolved, what leaks.
    """

    kind: str
    site: str
    primitive: str
    shape: tuple[int, ...]
    where: str
    note: str = ""


@dataclasses.dataclass(eq=False)
class Analysis:
    """A graph, understood: `infos` and `demands` of values, `roles` of nodes, and the analyses of the graphs within nodes."""

    graph: Graph
    infos: dict[int, Info]
    roles: dict[Node, Role | None]
    inner: dict[Node, tuple["Analysis", ...]]
    demands: dict[int, int] = dataclasses.field(default_factory=dict)
    outputs: tuple[int, ...] = ()
    findings: dict[tuple[Node, str], Finding] = dataclasses.field(default_factory=dict)

    def demand(self, number: int) -> int:
        """What is needed of a value."""
        return self.demands.get(number, FROZEN)

    def all_findings(self) -> list[Finding]:
        """In the order of the program, those of inner graphs in their place; what is the same in two branches once."""
        found: list[Finding] = []
        for node in self.graph.nodes:
            found += [finding for (of, _), finding in self.findings.items() if of is node]
            branches = [inner.all_findings() for inner in self.inner.get(node, ())]
            if len(branches) == 1:
                found += branches[0]
            else:
                found += functools.reduce(operator.or_, map(collections.Counter, branches), collections.Counter()).elements()
        return found


@dataclasses.dataclass(frozen=True)
class Wiring:
    """How a nested node's values and those of its graphs correspond: operands from `first` on are the inputs; of a loop, output j feeds
    input `loop + j` for j below `carried`."""

    graphs: tuple[Graph, ...]
    first: int = 0
    loop: int = 0
    carried: int = 0


def wiring(node: Node) -> Wiring | None:
    """The wiring of a nested node; None for any other, and for a `while` whose number of turns is not known."""
    match node.name:
        case "scan":
            return Wiring(node.graphs, 0, *_constants_and_carry(node.params))
        case "while":
            constants = node.params["body_nconsts"]
            return Wiring(node.graphs[1:], node.params["cond_nconsts"], constants, len(node.outputs))
        case "cond":
            return Wiring(node.graphs, 1)
    return Wiring(node.graphs) if node.graphs else None


def _constants_and_carry(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many operands of a `scan` are constants, and how many are carried; newer versions of JAX keep both as trees."""
    if "ft_in" in params:
        constants, carry, _ = params["ft_in"].unpack()
        return len(constants), len(carry)
    return params["num_consts"], params["num_carry"]


def analyse(graph: Graph, inputs: Sequence[Info], policy: Policy) -> Analysis:
    """Classify every value of a graph."""
    infos = {number: dataclasses.replace(info, roots=None, place=number) for number, info in zip(graph.inputs, inputs, strict=True)}
    infos |= {number: Info() for number in graph.constants}
    analysis = Analysis(graph, infos, {}, {})
    for node in graph.nodes:
        operands = [infos[number] for number in node.inputs]
        plan = wiring(node)
        if plan is not None and node.name == "while" and trip_count(graph, node) is None:
            plan = None
        if plan is None or not any(info.live for info in operands[plan.first :]):
            analysis.roles[node], results = classify(graph, node, operands, policy)
        else:
            analysis.inner[node], results = _analyse_inner(plan, operands[plan.first :], policy)
            if any(info.kind == DEAD for info in operands[: plan.first]):  # a branch taken by the image
                results = [Info(DEAD) if not info.live else info for info in results]
            results = [dataclasses.replace(info, place=number) for info, number in zip(results, node.outputs, strict=True)]
        infos.update(zip(node.outputs, results, strict=True))
    return analysis


def _analyse_inner(plan: Wiring, inputs: Sequence[Info], policy: Policy) -> tuple[tuple[Analysis, ...], list[Info]]:
    """The analyses of a node's graphs, a loop's carry at its fixed point."""
    inputs = [dataclasses.replace(info, roots=None, place=None) for info in inputs]
    while True:
        inner = tuple(analyse(graph, inputs, policy) for graph in plan.graphs)
        results = [join([one.infos[number] for one, number in zip(inner, numbers, strict=True)]) for numbers in _outputs(plan)]
        joined = list(inputs)
        for j in range(plan.carried):
            joined[plan.loop + j] = join([inputs[plan.loop + j], results[j]])
        if joined == inputs:
            return inner, [*inputs[plan.loop : plan.loop + plan.carried], *results[plan.carried :]]
        inputs = joined


def _outputs(plan: Wiring) -> list[tuple[int, ...]]:
    return list(zip(*(graph.outputs for graph in plan.graphs), strict=True))
