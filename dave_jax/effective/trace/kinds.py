"""What every value of a program is, from its structure alone.

    constant   does not depend on the image: parameters, position embeddings
    dead       depends on it without a derivative: comparisons, indices, what the user stopped
    live       depends on it: on the stream, or an operator; which of the two, its consumers decide

A live value that comes out of a nonlinearity, with no layer since, is *bare*: it prefers to be an operator (`tanh(x)` in `x tanh(x)`), and
is the stream where nothing else is. `rank` orders nonlinearities for a product of two that are alike; `marks` and `place` tell its site.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp

from dave_jax.effective.trace.graph import Graph, Node
from dave_jax.effective.trace.rules import RULES, Behaviour, Elementwise, Linear, Opaque, Product, Step

Policy = Literal["gate", "half", "left", "right"]
POLICIES: tuple[Policy, ...] = ("gate", "half", "left", "right")

CONSTANT, DEAD, LIVE = "constant", "dead", "live"
PLAIN, BENT, CURVED, SHIFTED, NORMALISED, SINGULAR = range(6)
"""Ranks: linear; piecewise linear; nonlinear with phi(0) = 0; nonlinear with phi(0) != 0; made of a sum over a nonlinearity, as a norm or a
softmax is; without a value at zero, so that it cannot be the stream."""

SINGULAR_PRIMITIVES = ("log", "rsqrt", "digamma", "lgamma", "div")


@dataclasses.dataclass(frozen=True)
class Info:
    """What a value is.

    Attributes:
        kind: constant, dead or live.
        rank: the strongest nonlinearity since the last layer with weights.
        bare: straight from a nonlinearity.
        marks: the nonlinearities and reductions since the last layer with weights.
        roots: of a bare value that is an elementwise function of others: the numbers of these.
        place: values with one place are elementwise functions of one another.
    """

    kind: str = CONSTANT
    rank: int = PLAIN
    bare: bool = False
    marks: frozenset[str] = frozenset()
    roots: frozenset[int] | None = None
    place: int | None = None

    @property
    def live(self) -> bool:
        """Whether the value has a derivative by the image."""
        return self.kind == LIVE


@dataclasses.dataclass(frozen=True)
class Role:
    """How a node acts on the stream.

    Attributes:
        behaviour: its kind of primitive; None for one without a rule.
        stream: the operands along which the stream goes.
        operator: the operand that acts on it, if that depends on the image.
        site: the site of a product, as `Decomposition` names it.
        choice: how an ambiguous product was resolved.
        layer: a product with weights.
        completes: the division that ends a softmax whose weights have acted already; a share of the stream was taken then.
    """

    behaviour: Behaviour | None
    stream: tuple[int, ...] = ()
    operator: int | None = None
    site: str = ""
    choice: str = ""
    layer: bool = False
    completes: bool = False

    @property
    def even(self) -> bool:
        """Whether no side of a product is the operator where an operator is made of it: of queries times keys, whatever they are."""
        return self.operator is None or (bool(self.choice) and isinstance(self.behaviour, Product) and self.behaviour.contracts)


def join(infos: Sequence[Info]) -> Info:
    """What a value is that may be any of these: the result of a branch, a carry."""
    live = [info for info in infos if info.live]
    if not live:
        return Info(DEAD if any(info.kind == DEAD for info in infos) else CONSTANT)
    marks = frozenset().union(*(info.marks for info in live))
    return Info(LIVE, max(info.rank for info in live), all(info.bare for info in live), marks)


def classify(graph: Graph, node: Node, operands: Sequence[Info], policy: Policy) -> tuple[Role | None, list[Info]]:
    """The role of a node (None without a live operand) and what its outputs are."""
    avals = [graph.avals[number] for number in node.outputs]
    if not any(info.live for info in operands):
        return None, [join(operands)] * len(avals)
    role, results = _classify(graph, node, operands, policy)
    if len(results) == 1:
        results = results * len(avals)
    with_place = []
    for number, aval, info in zip(node.outputs, avals, results, strict=True):
        if info.live and not jnp.issubdtype(aval.dtype, jnp.inexact):
            info = Info(DEAD)
        with_place.append(dataclasses.replace(info, place=number) if info.live and info.place is None else info)
    return role, with_place


def _classify(graph: Graph, node: Node, operands: Sequence[Info], policy: Policy) -> tuple[Role, list[Info]]:
    find = RULES.get(node.name)
    behaviour = None if find is None else find(node.params, tuple(info.live for info in operands))
    match behaviour:
        case Linear():
            stream = tuple(range(len(operands))) if behaviour.stream is None else behaviour.stream
            role = Role(behaviour, stream)
            if len(node.outputs) == len(operands) > 1 and behaviour.stream is None:  # sort, barriers: one output for each operand
                return role, [_linear(behaviour, [info]) if info.live else Info(DEAD) for info in operands]
            along = [operands[i] for i in stream if operands[i].live]
            return (role, [_linear(behaviour, along)]) if along else (Role(Opaque()), [_nonlinear(node, operands, SHIFTED)])
        case Product():
            return _product(graph, node, behaviour, operands, policy)
        case Elementwise():
            return Role(behaviour), [_nonlinear(node, operands, CURVED if behaviour.vanishes else SHIFTED, elementwise=True)]
        case Step():
            return Role(behaviour), [Info(DEAD)]
    return Role(behaviour), [_nonlinear(node, operands, SHIFTED)]


def _shared_place(infos: Sequence[Info]) -> int | None:
    places = {info.place for info in infos if info.live}
    return places.pop() if len(places) == 1 else None


def _linear(behaviour: Linear, along: Sequence[Info]) -> Info:
    info = join(along)
    roots = None
    if behaviour.pointwise and info.bare and all(one.roots for one in along):
        roots = frozenset().union(*(one.roots or () for one in along))
    return dataclasses.replace(
        info,
        rank=max(info.rank, BENT) if behaviour.bent else info.rank,
        marks=info.marks | {"reduce"} if behaviour.reduces else info.marks,
        roots=roots,
        place=_shared_place(along) if behaviour.pointwise or behaviour.reshapes else None,
    )


def _nonlinear(node: Node, operands: Sequence[Info], rank: int, *, elementwise: bool = False) -> Info:
    live = [(number, info) for number, info in zip(node.inputs, operands, strict=True) if info.live]
    if not elementwise or (node.name in SINGULAR_PRIMITIVES and not all(info.roots for _, info in live)):
        rank = SINGULAR
    elif any(info.bare and "reduce" in info.marks for _, info in live):
        rank = NORMALISED
    rank = max([rank, *(info.rank for _, info in live if info.bare)])
    marks = frozenset({node.name}).union(*(info.marks for _, info in live))
    roots = frozenset().union(*(info.roots or {number} for number, info in live)) if elementwise else None
    return Info(LIVE, rank, True, marks, roots, _shared_place(operands) if elementwise else None)


def _product(graph: Graph, node: Node, behaviour: Product, operands: Sequence[Info], policy: Policy) -> tuple[Role, list[Info]]:
    a, b = operands[:2]
    if a.live and b.live:
        one_root = a.roots is not None and a.roots == b.roots and len(a.roots) == 1
        if not behaviour.contracts and (node.inputs[0] == node.inputs[1] or one_root):
            vanishes = not behaviour.divides and (a.rank < SHIFTED or b.rank < SHIFTED)
            return Role(Elementwise(vanishes)), [_nonlinear(node, operands, CURVED, elementwise=True)]
        operator, choice = (1, "") if behaviour.divides else _choose(graph, node, a, b, policy)
        if operator is None:
            half = dataclasses.replace(join([a, b]), rank=max(a.rank, b.rank, BENT))
            return Role(behaviour, (0, 1), None, "gate", choice), [half]
        site = _site(behaviour, operands[1 - operator], operands[operator])
        completes = site == "attention" and behaviour.divides and "unnormalised" in operands[1 - operator].marks
        role = Role(behaviour, (1 - operator,), operator, site, choice, completes=completes)
        return role, [_acted_on(role, operands[1 - operator], operands[operator])]
    if behaviour.divides and b.live:
        return Role(Elementwise()), [_nonlinear(node, operands, SHIFTED, elementwise=True)]
    (stream, other), index = ((a, b), 0) if a.live else ((b, a), 1)
    if behaviour.contracts and other.kind == CONSTANT:
        return Role(behaviour, (index,), layer=True), [Info(LIVE)]
    place = None if behaviour.contracts else stream.place
    roots = None if behaviour.contracts or other.kind == DEAD else stream.roots
    rank = max(stream.rank, BENT) if other.kind == DEAD else stream.rank
    return Role(behaviour, (index,)), [dataclasses.replace(stream, roots=roots, rank=rank, place=place)]


def _choose(graph: Graph, node: Node, a: Info, b: Info, policy: Policy) -> tuple[int | None, str]:
    """Which side of a product of two live values is the operator (None: each of them, half), and how that was decided if it had to be."""
    if a.bare != b.bare:
        return (0 if a.bare else 1), ""
    if a.bare and a.rank != b.rank:
        return (0 if a.rank > b.rank else 1), ""
    if policy in ("left", "right"):
        return (0 if policy == "left" else 1), policy
    if policy == "gate":
        left, right = (origin(graph, number) for number in node.inputs[:2])
        first, later = sorted((left, right))
        if graph.between(first, later):  # W(x) x: what is made of x acts on it
            return (0 if later == left else 1), "gate"
    if policy == "gate" and a.rank != b.rank:
        return (0 if a.rank > b.rank else 1), "gate"
    return None, "half"


def origin(graph: Graph, number: int) -> int:
    """The value whose elements these are, in whatever shape."""
    while (node := graph.makers.get(number)) is not None and (find := RULES.get(node.name)) is not None:
        behaviour = find(node.params, (True,) * len(node.inputs))
        if not (isinstance(behaviour, Linear) and behaviour.reshapes):
            break
        number = node.inputs[0]
    return number


def _site(behaviour: Product, stream: Info, operator: Info) -> str:
    """The site of a product, from what its operator went through."""
    marks = operator.marks
    if behaviour.contracts or {"exp", "reduce"} <= marks:
        return "attention"
    if "reduce" in marks and (behaviour.divides or marks & {"rsqrt", "sqrt", "pow", "div"}):
        return "normalisation"
    return "activation" if stream.place == operator.place else "gate"


def _acted_on(role: Role, stream: Info, operator: Info) -> Info:
    """What a stream is after an operator acted on it."""
    rank, place, marks = stream.rank, None, stream.marks
    if stream.bare:
        rank, marks = max(rank, NORMALISED) if "reduce" in operator.marks else rank, marks | operator.marks
    elif role.site == "normalisation" or role.completes:
        marks = frozenset()
    elif role.site == "attention" and "exp" in operator.marks and operator.rank < NORMALISED:
        marks = marks | {"unnormalised"}
    elif role.site in ("activation", "gate"):
        rank = max(rank, CURVED if role.site == "activation" else BENT)
        place = stream.place if role.site == "activation" else None
    return Info(LIVE, rank, stream.bare, marks, None, place)
