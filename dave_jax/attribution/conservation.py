"""Conservation: how a decomposition's relevance changes from layer to layer, between the image and the logit.

With x_l the state before step l (the image, the tokens) and g_l the derivative of the logit with respect to it along a decomposition,

    R_l = <x_l, g_l>,        residual_l = R_(l+1) - R_l - (the biases' terms <b, df/db> of step l).

Where every operator of step l is frozen, x_(l+1) = A x_l + b and g_l = A^T g_(l+1), so that the residual is rounding error. Elsewhere it is
what the decomposition creates (negative) or loses (positive) there on the way from the logit to the image; over all steps the residuals sum
to what completeness lacks.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dave_jax.attribution.bias import on_every_token, spread_biases
from dave_jax.attribution.targets import as_cotangents
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.model import Forward, Model, check_images, count_classes
from dave_jax.models.network import in_precision
from dave_jax.models.vit import Intermediates, ViT

AFTER_BLOCKS = ("final_norm", "pool", "projection", "head", "distillation_head")


@dataclasses.dataclass(frozen=True)
class Conservation:
    """The relevance of every state of a network, and what the steps between them add. `print` shows a table.

    Attributes:
        decomposition: its name.
        states: `image`, `tokens 0` before the first block to `tokens depth` after the last, `logit`; of other models than ours `image` and
            `logit`.
        relevance: `<x, g>` of each state, Float[states]; the last is the logit.
        bias: the terms of the biases and other added parameters between one state and the next, Float[steps].
    """

    decomposition: str
    states: tuple[str, ...]
    relevance: Float[Array, " states"]
    bias: Float[Array, " steps"]

    @property
    def residual(self) -> Float[Array, " steps"]:
        """What each step does not conserve: `R_(l+1) - R_l - bias_l`, in units of the logit."""
        return self.relevance[1:] - self.relevance[:-1] - self.bias

    @property
    def relative(self) -> Float[Array, ""]:
        """The largest residual, as a share of the largest relevance or bias term."""
        largest = jnp.maximum(jnp.max(jnp.abs(self.relevance)), jnp.max(jnp.abs(self.bias)))
        return jnp.max(jnp.abs(self.residual)) / jnp.where(largest == 0, 1.0, largest)

    def __str__(self) -> str:
        width = max(len(state) for state in self.states)
        lines = [f"{self.decomposition:<{width}} {'relevance':>12} {'+ bias':>12} {'+ residual':>12}"]
        columns = (np.asarray(column).tolist() for column in (self.relevance, self.bias, self.residual))
        for state, relevance, bias, residual in zip(self.states, *columns, strict=False):  # nothing is added to the logit
            lines.append(f"{state:<{width}} {relevance:>12.5g} {bias:>12.5g} {residual:>12.2g}")
        return "\n".join([*lines, f"{self.states[-1]:<{width}} {float(self.relevance[-1]):>12.5g}"])


def conservation(model: Model, image: ArrayLike, target: Any, decomposition: str | Decomposition = "effective") -> Conservation:
    """Follow the relevance of an image through a network: where does a decomposition conserve it?

    To rounding under `effective`, `libragrad` and `cp_lrp_identity`, for every block. The others let something vary with the image whose
    relevance is not that of its value (the softmax, an activation, 1/sigma), so that a residual remains: a number to know, not an error.
    Terms of biases are along the same decomposition.

    Args:
        model: what predicts. Layers are known for the vision transformers of dave_jax whose head reads the last block alone; of other
            models, the image and the logit.
        image: one normalised image Float[h w 3].
        target: a class id, or a cotangent on the logits.
        decomposition: its name or itself.

    Example:
        >>> import dave_jax as dave
        >>> found = conservation(dave.testing.tiny_model(), jnp.ones((16, 16, 3)), 1)
        >>> found.states, bool(found.relative < 1e-5)
        (('image', 'tokens 0', 'tokens 1', 'tokens 2', 'logit'), True)
    """
    image = check_images(jnp.asarray(image)[None], model.preprocessing.image_size)[0]
    cotangents, _ = as_cotangents(jnp.asarray(target)[None], 1, count_classes(model, image.dtype), image.dtype)
    rules = resolve(decomposition)
    params = in_precision(model.forward, model.params, "float32", image.dtype)  # as in `bias`
    relevance, bias = _follow(model.forward, rules, params, image, cotangents[0, 0])
    between = tuple(f"tokens {i}" for i in range(len(relevance) - 2))
    return Conservation(rules.name, ("image", *between, "logit"), relevance, bias)


@partial(jax.jit, static_argnums=(0, 1))
def _follow(
    forward: Forward, rules: Decomposition, params: Any, image: Array, cotangent: Array
) -> tuple[Float[Array, " states"], Float[Array, " steps"]]:
    """The relevance of every state, and the bias terms between them."""
    biases, fill = spread_biases(forward, params)
    if not isinstance(forward, ViT) or forward.config.pooled_blocks > 1:  # what the head reads is then in more than one state
        logit, pull = jax.vjp(lambda image, biases: jnp.vdot(on_every_token(forward, fill(biases), image, rules), cotangent), image, biases)
        on_image, on_biases = pull(jnp.ones_like(logit))
        total = sum((jnp.vdot(on_biases[path], value) for path, value in biases.items()), start=jnp.zeros_like(logit))
        return jnp.stack([jnp.vdot(on_image, image), logit]), total[None]

    def run(image, biases, probe) -> tuple[Array, Array]:
        logits, inside = forward.intermediates(fill(biases), image, rules, Intermediates(probe, no_probe))
        return jnp.vdot(logits, cotangent), inside.tokens

    shapes = jax.eval_shape(lambda: forward.intermediates(params, image, rules)[1])
    probe, no_probe = (jnp.zeros(leaf.shape, leaf.dtype) for leaf in shapes)
    logit, pull, tokens = jax.vjp(run, image, biases, probe, has_aux=True)
    on_image, on_biases, on_tokens = pull(jnp.ones_like(logit))
    relevance = jnp.concatenate([jnp.vdot(on_image, image)[None], jnp.sum(on_tokens * tokens, axis=(1, 2)), logit[None]])
    depth = forward.config.depth
    steps = jnp.zeros(depth + 2, logit.dtype)
    for path, value in biases.items():
        term = on_biases[path] * value
        if path[0] == "blocks":
            steps = steps.at[1:-1].add(jnp.sum(term.reshape(depth, -1), axis=1))
        else:
            steps = steps.at[-1 if path[0] in AFTER_BLOCKS else 0].add(jnp.sum(term))
    return relevance, steps
