"""`decompose`: any JAX function of an image, the same values, and its effective transformation for a gradient.

jaxpr --graph--> calls written out --kinds--> constant, dead or live --analysis--> the stream, from the output back
      --interpret--> the same primitives; what is not the stream behind stop_gradient, activations as secants

A product of the stream and an operator freezes the operator; a nonlinear function of the stream is an operator where it multiplies the
stream, and a multiplier phi(x) / x where it is the stream itself. Piecewise linear primitives keep their derivative.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import source_info_util

from dave_jax.effective.decomposition import Decomposition, gradient, resolve
from dave_jax.effective.trace.analysis import Analysis, analyse
from dave_jax.effective.trace.demand import OUTPUT, NotOnTheStreamError, ask
from dave_jax.effective.trace.graph import build
from dave_jax.effective.trace.interpret import Setting, check_expressible, evaluate
from dave_jax.effective.trace.kinds import CONSTANT, DEAD, LIVE, POLICIES, Info, Policy

source_info_util.register_exclusion(__file__)  # errors and reports name the user's line


def decompose(
    function: Callable[..., Any], decomposition: str | Decomposition = "effective", *, argnum: int = 0, gate: Policy = "gate"
) -> Callable[..., Any]:
    """The same function, whose derivative by the image follows a decomposition: under `effective`, the effective transformation.

    The result is an ordinary function: it runs under `jit`, `vmap`, `grad` and `scan`. It traces `function` at every call, so compile it.

    Args:
        function: any JAX function of an image, an array or a pytree of arrays; it returns logits, and may take more arguments.
        decomposition: its name or itself.
        argnum: which argument is the image; the others are constants.
        gate: which side of a product of two streams is the operator: `gate`, the side that is computed from the other, else the one that
            passed through the stronger nonlinearity, and where they are alike, each side half; `half`; `left`; `right` (the operand of that
            side is the operator).

    Returns:
        The function with the same values.

    Raises:
        ValueError: at the call, when an output is not on the stream (a probability, an index), or a primitive on it has no rule.

    Example:
        >>> import jax.numpy as jnp
        >>> def logit(x):
        ...     return jax.nn.gelu(x) @ jnp.array([1.0, -2.0])
        >>> x = jnp.array([1.0, 2.0])
        >>> slope = jax.grad(decompose(logit))(x)
        >>> bool(jnp.allclose(slope @ x, logit(x), rtol=1e-6)), bool(jnp.allclose(jax.grad(logit)(x) @ x, logit(x), rtol=1e-2))
        (True, False)
    """
    rules = resolve(decomposition)
    if gate not in POLICIES:
        raise ValueError(f"gate must be one of {POLICIES}; got {gate!r}.")
    if rules == gradient:
        return function
    check_expressible(rules)

    @functools.wraps(function)
    def decomposed(*args: Any, **kwargs: Any) -> Any:
        analysis, inputs, structure = trace(function, args, kwargs, rules, argnum, gate)
        return jax.tree.unflatten(structure, evaluate(analysis, inputs, Setting(rules)))

    return decomposed


def with_scales(
    function: Callable[[Any], Any], decomposition: str | Decomposition = "effective", *, gate: Policy = "gate"
) -> Callable[..., Any]:
    """The decomposed function of an image and two numbers, which are one.

    The derivative by the first is what constants add to the outputs (biases, embeddings, phi(0) of activations), by the second what values
    add that depend on the image without being on the stream. With `<W_eff, x>` they make up the outputs.

    Args:
        function: of the image alone.
        decomposition: its name or itself.
        gate: as in `decompose`.

    Example:
        >>> scaled = with_scales(lambda x: jax.nn.softplus(x) + 3.0)
        >>> round(jax.grad(scaled, argnums=1)(2.0, 1.0, 1.0).item(), 4)  # 3 + log 2
        3.6931
    """
    rules = resolve(decomposition)
    check_expressible(rules)

    def scaled(image: Any, constants: Any, leaks: Any) -> Any:
        analysis, inputs, structure = trace(function, (image,), {}, rules, 0, gate)
        return jax.tree.unflatten(structure, evaluate(analysis, inputs, Setting(rules, (constants, leaks))))

    return scaled


def trace(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], rules: Decomposition, argnum: int, gate: Policy
) -> tuple[Analysis, list[Any], Any]:
    """The analysed program of a function at an image, the image's arrays, and the structure of its outputs."""
    if not 0 <= argnum < len(args):
        raise ValueError(f"The image is positional argument {argnum}; the function was called with {len(args)} positional arguments.")

    def of_image(image: Any) -> Any:
        return function(*args[:argnum], image, *args[argnum + 1 :], **kwargs)

    closed, shapes = jax.make_jaxpr(of_image, return_shape=True)(args[argnum])
    analysis = analyse(build(closed), [Info(LIVE)] * len(closed.in_avals), gate)
    structure = jax.tree.structure(shapes)
    for number, (path, _) in zip(analysis.graph.outputs, jax.tree_util.tree_leaves_with_path(shapes), strict=True):
        if analysis.infos[number].kind == DEAD:
            name = f" {jax.tree_util.keystr(path)}" if path else ""
            raise NotOnTheStreamError(
                f"The output{name} is not on the stream: it has no derivative by the image (an argmax, a comparison, a stop_gradient). "
                "Explain the logit instead: return what the decision is made from."
            )
    if analysis.graph.outputs and all(analysis.infos[number].kind == CONSTANT for number in analysis.graph.outputs):
        raise NotOnTheStreamError("No output depends on the image; check argnum, and that the function uses its argument.")
    ask(analysis, [OUTPUT] * len(analysis.graph.outputs), rules)
    return analysis, [jax.numpy.asarray(leaf) for leaf in jax.tree.leaves(args[argnum])], structure
