"""`while` loops whose number of turns can be read off the program."""

import operator
from typing import Any

import numpy as np

from dave_jax.effective.trace.graph import Graph, Node


def trip_count(graph: Graph, node: Node) -> int | None:
    """The number of turns of a `while` that counts an integer up from a known start to a known bound by a known step; else None."""
    condition, body = node.graphs
    if len(condition.nodes) != 1 or condition.nodes[0].name not in ("lt", "le", "gt", "ge"):
        return None
    compare = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}[condition.nodes[0].name]
    before, constants = node.params["cond_nconsts"], node.params["body_nconsts"]
    carried = {number: j for j, number in enumerate(condition.inputs[before:])}
    sides: list[tuple[str, Any]] = []
    for number in condition.nodes[0].inputs:
        if number in carried:
            sides.append(("counter", carried[number]))
        elif number in condition.inputs:
            sides.append(("known", _known(graph, node.inputs[condition.inputs.index(number)])))
        else:
            sides.append(("known", _known(condition, number)))
    counters = [value for kind, value in sides if kind == "counter"]
    if len(counters) == 2:  # the bound is carried too, and must not change
        j = next((j for j in counters if body.outputs[j] == body.inputs[constants + j]), None)
        if j is None:
            return None
        known = _known(graph, node.inputs[before + constants + j])
        sides = [("known", known) if value == j else (kind, value) for kind, value in sides]
        counters.remove(j)
    if len(counters) != 1 or any(kind == "known" and value is None for kind, value in sides):
        return None
    (counter,) = counters
    step = _step(body, body.inputs[constants + counter], body.outputs[counter])
    start = _known(graph, node.inputs[before + constants + counter])
    if start is None or not step:
        return None
    turns, value = 0, start
    while compare(*(value if kind == "counter" else bound for kind, bound in sides)):
        turns, value = turns + 1, value + step
        if turns > 1_000_000:
            return None
    return turns


def _known(graph: Graph, number: int) -> int | None:
    """A known integer."""
    value = graph.constants.get(number)
    if isinstance(value, (int, np.integer)):
        return int(value)
    return int(value) if isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "iu" else None


def _step(body: Graph, before: int, after: int) -> int | None:
    """What a turn adds to the counter."""
    for node in body.nodes:
        if node.outputs == (after,) and node.name == "add" and before in node.inputs:
            (other,) = [number for number in node.inputs if number != before] or [before]
            return _known(body, other)
    return None
