"""The backward pass over a program: what is needed of every value, asked from the outputs on.

FROZEN       only its value: an operator, or what makes one
DERIVATIVE   its ordinary derivative: what an operator depends on, under decompositions that differentiate operators
STREAM       its effective transformation
OUTPUT       the same, and no layer with weights comes after it: a nonlinearity here has squashed the logits
"""

from collections.abc import Sequence
from typing import Any

from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.rules import differentiate, exponentials, freeze
from dave_jax.effective.trace.analysis import FROZEN, Analysis, Finding, wiring
from dave_jax.effective.trace.chains import chain, root_of, value_at_zero
from dave_jax.effective.trace.graph import Node
from dave_jax.effective.trace.kinds import DEAD, Role
from dave_jax.effective.trace.rules import Elementwise, Linear, Opaque, Product
from dave_jax.effective.trace.sites import is_of_exponentials, residual_branch, softmaxes

DERIVATIVE, STREAM, OUTPUT = range(FROZEN + 1, FROZEN + 4)


class NotOnTheStreamError(ValueError):
    """A value that the effective transformation would need to go through has none."""


def ask(analysis: Analysis, outputs: Sequence[int], rules: Decomposition) -> None:
    """Fill in the demands, given those on the outputs; demands only grow, so that a loop may ask again.

    Raises:
        NotOnTheStreamError: the stream would go through what has no effective transformation.
    """
    analysis.outputs = tuple(outputs)
    _Backward(analysis, rules).run()


class _Backward:
    def __init__(self, analysis: Analysis, rules: Decomposition):
        self.analysis, self.graph, self.rules = analysis, analysis.graph, rules
        self.softmaxes = softmaxes(analysis, rules)

    def run(self) -> None:
        for number, level in zip(self.graph.outputs, self.analysis.outputs, strict=True):
            self.need(number, level)
        for node in reversed(self.graph.nodes):
            levels = [self.analysis.demand(number) for number in node.outputs]
            if max(levels) == FROZEN:
                continue
            if node in self.analysis.inner:
                self.inside(node, levels)
            elif (role := self.analysis.roles[node]) is not None:
                self.node(node, role, levels)

    def need(self, number: int, level: int) -> None:
        if self.analysis.infos[number].live:
            self.analysis.demands[number] = max(level, self.analysis.demand(number))

    def found(self, node: Node, kind: str, site: str, number: int, note: str = "") -> None:
        finding = Finding(kind, site, node.name, tuple(self.graph.avals[number].shape), node.where, note)
        self.analysis.findings[node, kind] = finding

    def inside(self, node: Node, levels: list[int]) -> None:
        plan, inner = wiring(node), self.analysis.inner[node]
        assert plan is not None
        while True:
            for one in inner:
                ask(one, levels, self.rules)
            inputs = [max(column) for column in zip(*([one.demand(n) for n in one.graph.inputs] for one in inner), strict=True)]
            looped = [max(level, inputs[plan.loop + j]) if j < plan.carried else level for j, level in enumerate(levels)]
            if looped == levels:
                break
            levels = looped
        for j in range(plan.carried):
            inputs[plan.loop + j] = max(inputs[plan.loop + j], levels[j])
        for number, level in zip(node.inputs[plan.first :], inputs, strict=True):
            self.need(number, level)
            if level >= STREAM and self.analysis.infos[number].kind == DEAD and self.is_float(number):
                self.found(node, "leak", "", number, "a value without derivative joins the stream")

    def is_float(self, number: int) -> bool:
        return self.graph.avals[number].dtype.kind in "fcV"

    def node(self, node: Node, role: Role, levels: list[int]) -> None:
        level = max(levels)
        match role.behaviour:
            case Linear():
                self.linear(node, role, role.behaviour, levels)
            case Product():
                self.product(node, role, role.behaviour, level)
            case Elementwise():
                self.elementwise(node, level)
            case _:
                if level >= STREAM:
                    raise NotOnTheStreamError(_off_stream(node, role))
                self.natively(node)

    def natively(self, node: Node) -> None:
        for number in node.inputs:
            self.need(number, DERIVATIVE)

    def linear(self, node: Node, role: Role, behaviour: Linear, levels: list[int]) -> None:
        if max(levels) >= STREAM and residual_branch(self.analysis, node, self.rules) is not None:
            self.found(node, "rule", "residual", node.outputs[0])
        if behaviour.reduces and max(levels) < STREAM:
            self.softmax(node)
        one_each = len(levels) == len(node.inputs) > 1 and behaviour.stream is None
        for i in role.stream:
            level = levels[i] if one_each else max(levels)
            if level >= STREAM and self.analysis.infos[node.inputs[i]].kind == DEAD and self.is_float(node.inputs[i]):
                self.found(node, "leak", "", node.inputs[i], "a value without derivative joins the stream")
            self.need(node.inputs[i], min(level, STREAM) if behaviour.reduces else level)

    def softmax(self, node: Node) -> None:
        """A sum within an operator, perhaps that of a softmax for which there is a rule."""
        if self.rules.softmax == exponentials or node.name != "reduce_sum":
            return
        if node in self.softmaxes:
            if self.analysis.demand(node.inputs[0]) < STREAM:  # one on the stream is no operator
                self.found(node, "rule", "softmax", node.inputs[0])
        elif is_of_exponentials(self.analysis, node.inputs[0]):
            raise _not_expressible(self.rules, "softmax", node)

    def product(self, node: Node, role: Role, behaviour: Product, level: int) -> None:
        level = min(level, STREAM) if behaviour.contracts else level
        if role.layer and self.rules.linear is not differentiate:
            raise _not_expressible(self.rules, "linear", node)
        if role.operator is None and len(role.stream) == 1:
            return self.need(node.inputs[role.stream[0]], level)
        if level < STREAM and (role.even or self.analysis.infos[node.inputs[role.stream[0]]].bare):
            return self.natively(node)
        for i in role.stream:
            self.need(node.inputs[i], max(level, STREAM))
        if role.choice:
            self.found(node, "ambiguous", role.site, node.inputs[role.stream[0]], _resolution(role))
        if role.operator is not None:
            self.found(node, "operator", role.site, node.inputs[role.operator])
            if getattr(self.rules, role.site) is not freeze:
                self.need(node.inputs[role.operator], DERIVATIVE)

    def elementwise(self, node: Node, level: int) -> None:
        if level < STREAM:
            return self.natively(node)
        graph, infos, role = self.graph, self.analysis.infos, self.analysis.roles[node]
        root = root_of(graph, infos, node)
        at_zero = "singular" if root is None else value_at_zero(graph, infos, chain(graph, infos, node, root), root)
        if root is None or at_zero == "singular":
            raise NotOnTheStreamError(_off_stream(node, role))
        vanishes = role is not None and isinstance(role.behaviour, Elementwise) and role.behaviour.vanishes
        if level == OUTPUT and at_zero != "zero" and not vanishes:
            raise NotOnTheStreamError(
                f"The output is not on the stream: `{node.name}` at {node.where} squashes it, with no layer after it. "
                "Explain the logit: return what goes into the softmax or sigmoid."
            )
        self.found(node, "multiplier", "activation", root)
        self.need(root, STREAM)
        if self.rules.activation is differentiate:
            for number in node.inputs:
                self.need(number, STREAM)


def _resolution(role: Role) -> str:
    side = "each side, half" if role.operator is None else ("left" if role.operator == 0 else "right") + " is the operator"
    return f"{side} ({role.choice})"


def _off_stream(node: Node, role: Role | None) -> str:
    if node.name == "while":
        return (
            f"`while` at {node.where} is on the stream, and its number of turns is not known. Use jax.lax.fori_loop with fixed bounds, or "
            "jax.lax.scan."
        )
    if role is None or role.behaviour is None:
        return (
            f"`{node.name}` at {node.where} is on the stream, and no rule says how it acts there. Register one: "
            f'@dave.rule("{node.name}") above a function (params, live) that returns a behaviour of dave_jax.effective.trace.rules '
            "(Linear, Product, Elementwise, Opaque, Step)."
        )
    reason = "is no function of single elements" if isinstance(role.behaviour, Opaque) else "has no multiplier here"
    return (
        f"`{node.name}` at {node.where} is on the stream, and {reason}: it can only be part of an operator. If it makes the output "
        "(log_softmax, a probability), explain the logit instead."
    )


def _not_expressible(rules: Decomposition, site: str, node: Any) -> NotOnTheStreamError:
    return NotOnTheStreamError(
        f"The decomposition {rules.name!r} has a rule for the site `{site}`, which a traced program does not show ({node.name} at "
        f"{node.where}). Use a decomposition that leaves `{site}` as it is, or build the model of dave_jax.effective.layers."
    )
