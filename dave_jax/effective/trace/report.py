"""`inspect`: what `decompose` makes of a function, to be read before its maps are believed."""

import collections
import dataclasses
import html
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.effective.trace.analysis import Finding
from dave_jax.effective.trace.decompose import decompose, trace, with_scales
from dave_jax.effective.trace.kinds import Policy
from dave_jax.effective.trace.secant import linearize

KINDS = {
    "operator": "operators that act on the stream, and freeze",
    "multiplier": "activations without a product form, as phi(x) / x",
    "ambiguous": "products of two streams, and how they were resolved",
    "rule": "residual sums and softmaxes, where the decomposition has a rule for them",
    "leak": "values without derivative that join the stream",
}


@dataclasses.dataclass(frozen=True)
class Report:
    """How a function was decomposed at an image: `outputs = image + bias + leak`, up to the residual.

    Attributes:
        findings: the sites, in the order of the program.
        outputs: the logits, flat.
        image: the image's part, `<W_eff, x>`.
        bias: what constants add to the stream: biases, position embeddings, phi(0) of activations.
        leak: what values add that depend on the image without being on the stream.
        residual: `|outputs - image - bias - leak|`, relative to the largest of them: rounding error, or else the sum is not complete.
    """

    findings: tuple[Finding, ...]
    outputs: Float[Array, " outputs"]
    image: Float[Array, " outputs"]
    bias: Float[Array, " outputs"]
    leak: Float[Array, " outputs"]
    residual: float

    def rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """Findings as text (kind, site, primitive, shape, line, note), equal ones once, with their number."""
        counts = collections.Counter(self.findings)
        return [
            (one.kind, one.site, one.primitive, "x".join(map(str, one.shape)) or "scalar", one.where, _note(one, count))
            for one, count in counts.items()
        ]

    def summary(self) -> str:
        """The numbers, in a line."""
        counts = collections.Counter(finding.kind for finding in self.findings)
        sizes = {name: float(jnp.max(jnp.abs(getattr(self, name)))) for name in ("outputs", "image", "bias", "leak")}
        found = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]) or "linear"
        return f"{found}; largest " + ", ".join(f"{name} {size:.3g}" for name, size in sizes.items()) + f"; residual {self.residual:.1e}"

    def __str__(self) -> str:
        rows = self.rows()
        widths = [max(len(row[i]) for row in rows) for i in range(5)] if rows else []
        lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]).rstrip() for row in rows]
        return "\n".join([self.summary(), *lines])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("kind", "site", "primitive", "shape", "line", "note"))
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows())
        return f"<p>{html.escape(self.summary())}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _note(finding: Finding, count: int) -> str:
    return "; ".join(filter(None, [finding.note, f"{count} times" if count > 1 else ""]))


def inspect(function: Callable[..., Any], image: Any, *, decomposition: str | Decomposition = "effective", gate: Policy = "gate") -> Report:
    """Decompose a function at an image and report: operators with their source lines, ambiguous products, leaks, completeness.

    Args:
        function: of the image alone; close over the rest.
        image: where: an array or a pytree of arrays, of floating-point numbers. The sites do not depend on its values, the numbers do.
        decomposition: its name or itself.
        gate: as in `decompose`.

    Raises:
        TypeError: a leaf of the image holds no floating-point numbers.
        ValueError: as `decompose`.

    Example:
        >>> report = inspect(lambda x: jnp.tanh(x) @ jnp.array([1.0, 2.0]) + 1.0, jnp.array([0.5, -1.0]))
        >>> [(one.kind, one.primitive) for one in report.findings], report.bias.tolist(), report.residual < 1e-6
        ([('multiplier', 'tanh')], [1.0], True)
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(image):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            name = f"image{jax.tree_util.keystr(path)}"
            raise TypeError(f"image must hold floating-point numbers; {name} is {jnp.result_type(leaf)}. Cast it, or close over it.")
    analysis, _, _ = trace(function, (image,), {}, resolve(decomposition), 0, gate)
    scaled = with_scales(function, decomposition, gate=gate)

    @jax.jit
    def parts(image: Any) -> tuple[Any, ...]:
        def flat(*arguments: Any) -> Any:
            return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(scaled(*arguments))])

        one = jnp.ones((), jnp.result_type(*jax.tree.leaves(image)))
        outputs, derivative = linearize(flat, image, one, one)
        zero, still = jnp.zeros_like(one), jax.tree.map(jnp.zeros_like, image)
        return outputs, derivative(image, zero, zero), derivative(still, one, zero), derivative(still, zero, one)

    outputs, signal, bias, leak = parts(jax.tree.map(jnp.asarray, image))
    largest = max(float(jnp.max(jnp.abs(part))) for part in (outputs, signal, bias, leak))
    residual = float(jnp.max(jnp.abs(outputs - signal - bias - leak))) / (largest or 1.0)
    return Report(tuple(analysis.all_findings()), outputs, signal, bias, leak, residual)


def frozen(function: Callable[[Any], Any], image: ArrayLike, *, gate: Policy = "gate") -> Callable[[Any], Any]:
    """The affine function that a network is with the operators of one image: `x -> f(image) + W_eff (x - image)`.

    Its value at zero is the part of the outputs that is not the image's.

    Args:
        function: of the image alone.
        image: whose operators.
        gate: as in `decompose`.

    Example:
        >>> affine = frozen(lambda x: jax.nn.silu(x) + 1.0, jnp.array([2.0]))
        >>> affine(jnp.zeros(1)).tolist()
        [1.0]
    """
    image = jnp.asarray(image)
    outputs, derivative = jax.linearize(decompose(function, gate=gate), image)
    return lambda x: jax.tree.map(jnp.add, outputs, derivative(x - image))
