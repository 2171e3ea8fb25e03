"""What the image does not account for: the contributions of biases, position embedding and special tokens.

With every operator frozen a network is affine in its image and in each bias-like parameter b (biases, position embedding, class and
register tokens), and each enters once, so that exactly

    logit = <W_eff, x> + sum over b of <df/db, b>.

The authors of DAVE leave the second term open. It is often most of the logit: `BiasContributions.share` says how much.

Parameters in bfloat16 are widened first, for a sum is complete in the images' type alone: the logit is that of the rounded parameters in
float32.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dave_jax.attribution.targets import as_cotangents
from dave_jax.effective.decomposition import Decomposition, gradient, resolve
from dave_jax.models.model import Forward, Model, check_images, count_classes
from dave_jax.models.network import Network, in_precision
from dave_jax.models.traced import Traced
from dave_jax.models.vit import ViT

BIAS_LIKE = ("bias", "running_mean", "position_embedding", "class_token", "distillation_token", "register_tokens")
"""Last names of the parameters that are added to the stream, or taken from it."""

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class BiasContributions:
    """The parts of one logit. `logit = image + sum(terms.values())` to rounding.

    Attributes:
        logit: what is explained.
        image: `<W_eff, x>`.
        terms: the contribution of every bias-like parameter, by its path (`blocks/mlp/fc1/bias`); of blocks, Float[depth].
        place: the contributions that belong to a patch (position embedding, biases of patches), Float[rows columns]; None for models
            without known places.
    """

    logit: Float[Array, ""]
    image: Float[Array, ""]
    terms: dict[str, Float[Array, "..."]]
    place: Float[Array, "rows columns"] | None

    @property
    def total(self) -> Float[Array, ""]:
        """The sum of all terms."""
        return sum((jnp.sum(term) for term in self.terms.values()), start=jnp.zeros_like(self.logit))

    @property
    def share(self) -> Float[Array, ""]:
        """The part of the logit that is not the image's: `total / logit`."""
        return self.total / self.logit

    @property
    def per_block(self) -> Float[Array, " depth"]:
        """The sum of the terms of each block, of a vision transformer."""
        return sum((term for path, term in self.terms.items() if path.startswith("blocks/")), start=jnp.zeros(()))


def bias_contributions(model: Model, image: ArrayLike, target: Any) -> BiasContributions:
    """Take a logit apart into the image's part and one term for each bias-like parameter.

    Args:
        model: what predicts; its bias-like parameters are found by name (`BIAS_LIKE`).
        image: one normalised image Float[h w 3].
        target: a class id, or a cotangent on the logits.

    Example:
        >>> import dave_jax as dave
        >>> parts = bias_contributions(dave.testing.tiny_model(), jnp.ones((16, 16, 3)), 1)
        >>> bool(jnp.abs(parts.image + parts.total - parts.logit) < 1e-5), parts.place.shape
        (True, (4, 4))
    """
    image = check_images(jnp.asarray(image)[None], model.preprocessing.image_size)[0]
    cotangents, _ = as_cotangents(jnp.asarray(target)[None], 1, count_classes(model, image.dtype), image.dtype)
    params = in_precision(model.forward, model.params, "float32", image.dtype)
    logit, from_image, per_token = _contributions(model.forward, resolve("effective"), params, image, cotangents[0, 0])
    place = None
    if isinstance(model.forward, ViT):
        config = model.forward.config
        rows, columns = config.grid
        placed = (on_patches(path, term, model.forward) for path, term in per_token.items())
        place = sum(placed, start=jnp.zeros(rows * columns)).reshape(rows, columns)
    terms = {"/".join(path): _sum_tokens(path, term, isinstance(model.forward, Network)) for path, term in per_token.items()}
    return BiasContributions(logit, from_image, terms, place)


def completeness(model: Model, image: ArrayLike, target: Any, decomposition: str | Decomposition = "effective") -> Float[Array, ""]:
    """The residual of `logit = <W_eff, x> + sum of bias terms`, relative to the largest of the three: rounding error when all is well.

    Example:
        >>> import dave_jax as dave
        >>> float(completeness(dave.testing.tiny_model(), jnp.ones((16, 16, 3)), 0)) < 1e-5
        True
    """
    return share_and_completeness(model, image, target, decomposition)[1]


def share_and_completeness(
    model: Model, image: ArrayLike, target: Any, decomposition: str | Decomposition = "effective"
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The biases' share of a logit, as `BiasContributions.share`, and `completeness`, from one backward pass.

    Example:
        >>> import dave_jax as dave
        >>> model, image = dave.testing.tiny_model(), jnp.ones((16, 16, 3))
        >>> share, residual = share_and_completeness(model, image, 0)
        >>> bool(jnp.abs(share - bias_contributions(model, image, 0).share) < 1e-4), bool(residual == completeness(model, image, 0))
        (True, True)
    """
    image = check_images(jnp.asarray(image)[None], model.preprocessing.image_size)[0]
    cotangents, _ = as_cotangents(jnp.asarray(target)[None], 1, count_classes(model, image.dtype), image.dtype)
    params = in_precision(model.forward, model.params, "float32", image.dtype)
    logit, from_image, terms = _contributions(model.forward, resolve(decomposition), params, image, cotangents[0, 0])
    total = sum((jnp.sum(term) for term in terms.values()), start=jnp.zeros_like(logit))
    largest = jnp.max(jnp.abs(jnp.stack([logit, from_image, total])))
    return total / logit, jnp.abs(logit - from_image - total) / largest


@partial(jax.jit, static_argnums=(0, 1))
def _contributions(
    forward: Forward, rules: Decomposition, params: Any, image: Array, cotangent: Array
) -> tuple[Array, Array, dict[Path, Array]]:
    """The logit, `<W, x>`, and the terms: per token where a parameter acts on every token."""
    chosen, fill = spread_biases(forward, params)

    def logit(image, chosen):
        return jnp.vdot(on_every_token(forward, fill(chosen), image, rules), cotangent)

    value, (image_gradient, gradients) = jax.value_and_grad(logit, argnums=(0, 1))(image, chosen)
    terms = {path: gradients[path] * chosen[path] for path in chosen}
    if isinstance(forward, Traced) and rules != gradient:  # a traced program shows every constant, also those without a known name
        constants, leak = (jnp.vdot(part, cotangent) for part in forward.constants(params, image, rules))
        named = sum((jnp.sum(term) for term in terms.values()), start=jnp.zeros_like(constants))
        terms |= {("constants",): constants - named, ("leak",): leak}
    return value, jnp.vdot(image_gradient, image), terms


def spread_biases(forward: Forward, params: Any) -> tuple[dict[Path, Array], Callable[[dict[Path, Array]], Any]]:
    """The bias-like parameters by path, one row a token where they act on every token, and a function that puts such into the others.

    With a row for each token the gradient with respect to a bias has a place. The network's values stay the same.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    paths = [tuple(str(getattr(part, "key", getattr(part, "name", part))) for part in path) for path, _ in leaves]
    chosen = {path: leaf for path, (_, leaf) in zip(paths, leaves, strict=True) if path[-1] in BIAS_LIKE}
    if isinstance(forward, ViT):
        chosen = {path: _repeat(path, leaf, forward) for path, leaf in chosen.items()}

    def fill(chosen: dict[Path, Array]) -> Any:
        return jax.tree.unflatten(structure, [chosen.get(path, leaf) for path, (_, leaf) in zip(paths, leaves, strict=True)])

    return chosen, fill


def on_every_token(forward: Forward, params: Any, image: Array, rules: Decomposition) -> Array:
    """The logits, computed with parameters of `spread_biases`: a ViT's own pass has no rows for what its head does not read."""
    return forward.operators(params, image, rules)[0] if isinstance(forward, ViT) else forward(params, image, rules)


def _repeat(path: Path, leaf: Array, vit: ViT) -> Array:
    """A bias (width) that acts on every token as one row a token."""
    config = vit.config
    patches = config.grid[0] * config.grid[1]
    if path[0] == "blocks":
        return jnp.repeat(leaf[:, None], patches + config.num_prefix, axis=1)
    if path[0] in ("patch_embedding", "patch_norm"):
        return jnp.repeat(leaf[None], patches, axis=0)
    if path[0] == "pre_norm" or (path[0] == "final_norm" and config.final_norm == "tokens"):
        earlier = config.pooled_blocks - 1 if path[0] == "final_norm" else 0
        return jnp.repeat(leaf[None], earlier + config.num_prefix + patches, axis=0)
    return leaf


def on_patches(path: Path, term: Array, vit: ViT) -> Float[Array, " patches"]:
    """The part of a term of `spread_biases`' parameters that belongs to patches, which come last among the tokens."""
    patches = vit.config.grid[0] * vit.config.grid[1]
    if path[0] == "blocks":
        return jnp.sum(term, axis=(0, 2))[-patches:]
    if path[0] in ("patch_embedding", "patch_norm", "pre_norm", "position_embedding") or (path[0] == "final_norm" and term.ndim == 2):
        return jnp.sum(term, axis=1)[-patches:]
    return jnp.zeros(patches, term.dtype)


def _sum_tokens(path: Path, term: Array, ours: bool) -> Array:
    """The contribution of a parameter: a number, or one for each block that a network of ours stacks."""
    stacked = ours and (path[0] == "blocks" or (path[0] == "stages" and path[2] == "blocks"))
    return jnp.sum(term, axis=tuple(range(1, term.ndim))) if stacked else jnp.sum(term)
