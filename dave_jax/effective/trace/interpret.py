"""Run an analysed program: the same values, and derivatives along the stream alone."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.operators import Diagonal, Operator, Shape, Shared, operator
from dave_jax.effective.rules import differentiate, freeze
from dave_jax.effective.trace.analysis import FROZEN, Analysis, wiring
from dave_jax.effective.trace.chains import chain, root_of, value_at_zero
from dave_jax.effective.trace.demand import DERIVATIVE, STREAM, NotOnTheStreamError
from dave_jax.effective.trace.graph import Node
from dave_jax.effective.trace.kinds import DEAD, Role
from dave_jax.effective.trace.loops import trip_count
from dave_jax.effective.trace.rules import Elementwise, Linear, Product
from dave_jax.effective.trace.secant import add_derivative, attach, half, secant
from dave_jax.effective.trace.sites import Softmax, residual_branch, softmaxes


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a run needs besides the program.

    Attributes:
        rules: the decomposition.
        scales: a pair of ones, or None. The derivative of the outputs by the first is what constants add to the stream (biases, position
            embeddings, phi(0)), by the second what leaks into it.
    """

    rules: Decomposition
    scales: tuple[Any, Any] | None = None


@operator(("factor",), ("in_shape", "apply"))
class Bilinear(Operator):
    """A product with a factor that depends on the image, as the program computes it: `apply(x, factor)`."""

    factor: Any
    in_shape: Shape
    apply: Any

    def __call__(self, x):
        """The product."""
        return self.apply(x, self.factor)


def evaluate(analysis: Analysis, inputs: Sequence[Any], setting: Setting) -> list[Any]:
    """The outputs of a program for these inputs."""
    return _Run(analysis, setting).run(inputs)


class _Run:
    def __init__(self, analysis: Analysis, setting: Setting):
        self.analysis, self.graph, self.setting = analysis, analysis.graph, setting
        self.values: dict[int, Any] = {}
        self.frozen: dict[int, Any] = {}
        self.softmaxes = softmaxes(analysis, setting.rules)
        self.totals: dict[Node, Any] = {}

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        self.values |= self.graph.constants
        self.values.update(zip(self.graph.inputs, inputs, strict=True))
        for node in self.graph.nodes:
            self.values.update(zip(node.outputs, self.node(node), strict=True))
        return [self.read(number, level) for number, level in zip(self.graph.outputs, self.analysis.outputs, strict=True)]

    def read(self, number: int, level: int) -> Any:
        """A value as its consumer needs it: frozen, or as it is; what joins the stream without being it is marked as such."""
        value, info = self.values[number], self.analysis.infos[number]
        if not info.live:
            return self.joining(number, value) if level >= STREAM else value
        if level > FROZEN:
            return value
        if number not in self.frozen:
            self.frozen[number] = jax.lax.stop_gradient(value)
        return self.frozen[number]

    def joining(self, number: int, value: Any) -> Any:
        aval = self.graph.avals[number]
        if self.setting.scales is None or not jnp.issubdtype(aval.dtype, jnp.inexact):
            return value
        scale = self.setting.scales[self.analysis.infos[number].kind == DEAD]
        value = jnp.asarray(value, aval.dtype)
        return add_derivative(value, value, scale)

    def node(self, node: Node) -> list[Any]:
        levels = [self.analysis.demand(number) for number in node.outputs]
        level = max(levels)
        if level == FROZEN:
            return node.bind(*(self.read(number, FROZEN) for number in node.inputs))
        if node in self.analysis.inner:
            return self.inside(node, levels)
        if (found := self.softmaxes.get(node)) is not None and self.is_operator(found):
            return self.softmax(node, found)
        role = self.analysis.roles[node]
        assert role is not None
        match role.behaviour:
            case Linear():
                one_each = len(levels) == len(node.inputs) > 1 and role.behaviour.stream is None
                needs = [FROZEN] * len(node.inputs)
                for i in role.stream:
                    needs[i] = levels[i] if one_each else level
                operands = [self.read(number, need) for number, need in zip(node.inputs, needs, strict=True)]
                if level >= STREAM and (branch := residual_branch(self.analysis, node, self.setting.rules)) is not None:
                    return [self.setting.rules.residual(operands[1 - branch], operands[branch])]
                if node.name == "custom_jvp_call" and self.setting.scales is not None:
                    return [self.kinked(node, operands)]
                return node.bind(*operands)
            case Product():
                return self.product(node, role, level)
            case Elementwise() if level >= STREAM and self.setting.rules.activation is not differentiate:
                return [self.multiplier(node)]
        return node.bind(*(self.read(number, DERIVATIVE) for number in node.inputs))

    def is_operator(self, found: Softmax) -> bool:
        return all(self.analysis.demand(node.outputs[0]) == DERIVATIVE for node in (found.exponentials, found.total))

    def softmax(self, node: Node, found: Softmax) -> list[Any]:
        """The exponentials of a softmax, or their sum: the rule makes both, less the scores' maximum, which most programs subtract."""
        if node is found.exponentials:
            scores = jnp.moveaxis(self.read(node.inputs[0], DERIVATIVE), found.axis, -1)
            size = jnp.exp(jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
            weights, total = self.setting.rules.softmax(scores)
            self.totals[found.total] = (size * total)[..., 0]
            return [jnp.moveaxis(size * weights, -1, found.axis)]
        return [self.totals[node]]

    def kinked(self, node: Node, operands: list[Any]) -> Any:
        """A piecewise linear call, such as relu6, with the constants inside it marked: what its slope leaves of it."""
        assert self.setting.scales is not None
        x = jax.lax.stop_gradient(operands[0])
        y, along = jax.jvp(lambda x: node.bind(x)[0], (x,), (x,))
        return add_derivative(node.bind(*operands)[0], y - along, self.setting.scales[0])

    def product(self, node: Node, role: Role, level: int) -> list[Any]:
        operands = [self.read(number, DERIVATIVE) for number in node.inputs]
        if role.operator is None:
            if len(role.stream) == 2 and level >= STREAM:
                operands[:2] = half(operands[0]), half(operands[1])
            return node.bind(*operands)
        (index,) = role.stream
        if level < STREAM and (role.even or self.analysis.infos[node.inputs[index]].bare):
            return node.bind(*operands)
        rule = getattr(self.setting.rules, role.site)
        if rule is freeze:
            operands[role.operator] = self.read(node.inputs[role.operator], FROZEN)
        if rule in (freeze, differentiate):
            return node.bind(*operands)
        apply = partial(_apply, node, role.operator, tuple(operands[2:]))
        op = rule(Bilinear(operands[role.operator], tuple(operands[index].shape), apply))
        if role.completes and isinstance(op, Shared):
            op = op.original
        return [op(operands[index])]

    def multiplier(self, node: Node) -> Any:
        """An activation, as its secant times the stream."""
        graph, infos = self.graph, self.analysis.infos
        root = root_of(graph, infos, node)
        assert root is not None
        nodes = chain(graph, infos, node, root)
        rule = self.setting.rules.activation

        def function(x: Any) -> Any:
            values = {root: x}
            for one in nodes:
                operands = [values[number] if number in values else self.read(number, FROZEN) for number in one.inputs]
                values.update(zip(one.outputs, one.bind(*operands), strict=True))
            return values[node.outputs[0]]

        stream, level = self.read(root, STREAM), FROZEN if rule is freeze else STREAM
        x = self.read(root, level)
        y = node.bind(*(self.read(number, FROZEN) for number in node.inputs))[0] if rule is freeze else function(x)
        slope, constant = secant(function, x, y, vanishing=value_at_zero(graph, infos, nodes, root) == "zero")
        if rule is freeze:
            y = attach(stream, y, slope)
        else:
            y = (rule(Diagonal(slope, tuple(stream.shape)))(stream) + jax.lax.stop_gradient(constant)).astype(y.dtype)
        return y if self.setting.scales is None else add_derivative(y, constant, self.setting.scales[0])

    def inside(self, node: Node, levels: list[int]) -> list[Any]:
        """A nested node: its graphs run in the same way, under the same control."""
        plan, inner, params = wiring(node), self.analysis.inner[node], node.params
        assert plan is not None
        needs = [max(column) for column in zip(*([one.demand(n) for n in one.graph.inputs] for one in inner), strict=True)]
        for j in range(plan.carried):
            needs[plan.loop + j] = max(needs[plan.loop + j], inner[0].outputs[j])
        values = [self.read(number, need) for number, need in zip(node.inputs[plan.first :], needs, strict=True)]
        programs = [partial(_program, one, self.setting) for one in inner]
        match node.name:
            case "scan" | "while":
                constants, carry, xs = values[: plan.loop], values[plan.loop : plan.loop + plan.carried], values[plan.loop + plan.carried :]

                def turn(carry: Any, x: Any) -> tuple[list[Any], list[Any]]:
                    results = programs[0](*constants, *carry, *x)
                    return results[: plan.carried], results[plan.carried :]

                if node.name == "while":
                    options: dict[str, Any] = {"length": trip_count(self.graph, node)}
                else:
                    options = {name: params[name] for name in ("length", "reverse", "unroll")}
                last, stacked = jax.lax.scan(turn, carry, xs, **options)
                return [*last, *stacked]
            case "cond":
                return jax.lax.switch(self.read(node.inputs[0], FROZEN), programs, *values)
            case "shard_map":
                names = params["newly_manual_axes" if "newly_manual_axes" in params else "manual_axes"]
                specs = {name: params[name] for name in ("mesh", "in_specs", "out_specs", "check_vma")}
                specs["out_specs"] = list(specs["out_specs"])
                return jax.shard_map(programs[0], axis_names=set(names), **specs)(*values)
        return jax.checkpoint(programs[0], prevent_cse=params["prevent_cse"], policy=params["policy"])(*values)


def _program(analysis: Analysis, setting: Setting, *inputs: Any) -> list[Any]:
    return evaluate(analysis, inputs, setting)


def _apply(node: Node, index: int, rest: tuple[Any, ...], x: Any, factor: Any) -> Any:
    """A product, its operator put in its place."""
    operands = (factor, x) if index == 0 else (x, factor)
    return node.bind(*operands, *rest)[0]


def check_expressible(rules: Decomposition) -> None:
    """Raise for a rule of a site that a program does not show.

    Raises:
        NotOnTheStreamError: the decomposition treats the embedding apart from other products with weights.
    """
    if rules.embedding is not differentiate:
        raise NotOnTheStreamError(
            f"The decomposition {rules.name!r} has a rule for the site `embedding`, which a traced program does not show: it is a product "
            "with weights like any other. Use a decomposition that leaves it as it is, or build the model of dave_jax.effective.layers."
        )
