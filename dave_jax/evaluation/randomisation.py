"""The parameter-randomisation sanity check (arXiv 1810.03292): a map that explains the model changes when the model is destroyed.

Parameters are destroyed from the logits down, in a cascade: the head; the head and the last block; ...; everything. At each stage the map
is compared with that of the intact model. A method whose maps stay alike explains the image, not the model.

Each array is drawn anew from its own values, with replacement, those of each block apart. That destroys what was learned and keeps the
distribution of every array, hence the scale of all activations, whatever the model was initialised with; an array of equal values (a bias
of zeros) stays. A permutation does the same but needs a sort: twenty times as long.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.evaluation.similarity import checked_maps, spearman
from dave_jax.models.model import Model, check_images
from dave_jax.models.vit import ViT

HEAD = ("head", "distillation_head", "projection", "pool", "final_norm")
"""What follows the last block, by the first name of a parameter's path; what is neither this nor `blocks` precedes the first block."""


@dataclasses.dataclass(frozen=True)
class Randomisation:
    """Likeness to the map of the intact model, for each stage of the cascade.

    Attributes:
        stages: what is random at each, from "head" down to "everything".
        signed: the rank correlation of the signed maps, Float[stages b].
        absolute: that of their absolute values, Float[stages b].
    """

    stages: tuple[str, ...]
    signed: Float[Array, "stages b"]
    absolute: Float[Array, "stages b"]


def randomisation(
    explainer: Callable[[Model, Array, Any], Any],
    model: Model,
    images: ArrayLike,
    targets: Any,
    *,
    key: PRNGKeyArray,
    stages: Sequence[int] | None = None,
) -> Randomisation:
    """Compare the maps of ever more random models with those of the model: Spearman's rank correlation, 0 for unrelated maps.

    The paper reports it with and without absolute values: a gradient that merely flips its sign changes the first alone. Ranks are
    indifferent to the scale of a map, which changes with the model, and to a few extreme pixels, which decide Pearson's; structural
    similarity, which the paper reports as well, depends on a range and a window that maps do not have.

    Args:
        explainer: `explainer(model, images, targets)`, signed maps Float[b h w]; of a method, `lambda model, images, targets:
            method(model, images, targets, key=key, raw=True)`. With one key the samples stay the same, and the model alone changes.
        model: a vision transformer of dave_jax.
        images: normalised images Float[b h w 3].
        targets: class ids Int[b]: the same for every stage.
        key: of the random parameters.
        stages: how many parts are random at each stage, counted from the head: 1 the head, `1 + m` also the last m blocks, depth + 2
            everything (see `randomise`); every stage by default.

    Raises:
        TypeError: the model is none of ours.
        ValueError: a stage that there is not; maps of a wrong shape, or not finite.

    Example:
        >>> import dave_jax as dave
        >>> edges = lambda model, images, targets: images.sum(-1)
        >>> images = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
        >>> found = randomisation(edges, dave.testing.tiny_model(), images, [0], key=jax.random.key(1))
        >>> found.stages, found.signed[:, 0].round(5).tolist()
        (('head', 'block 1', 'block 0', 'everything'), [1.0, 1.0, 1.0, 1.0])
    """
    images = check_images(images, model.preprocessing.image_size)
    depth = _depth(model)
    chosen = tuple(range(1, depth + 3)) if stages is None else tuple(stages)
    if not chosen or min(chosen) < 1 or max(chosen) > depth + 2:
        raise ValueError(f"stages must lie in 1 to {depth + 2}, the head to everything, at least one of them; got {list(chosen)}.")
    names = ("head", *(f"block {block}" for block in reversed(range(depth))), "everything")
    own = checked_maps(explainer(model, images, targets), images.shape[:3])
    maps = [checked_maps(explainer(randomise(model, parts, key=key), images, targets), images.shape[:3]) for parts in chosen]
    signed = jnp.stack([spearman(other, own) for other in maps])
    absolute = jnp.stack([spearman(jnp.abs(other), jnp.abs(own)) for other in maps])
    return Randomisation(tuple(names[parts - 1] for parts in chosen), signed, absolute)


def randomise(model: Model, parts: int, *, key: PRNGKeyArray) -> Model:
    """The model with the parameters of its last parts drawn anew, each array from its own values.

    Equal keys give nested models: what is random with few parts is the same with more.

    Args:
        model: a vision transformer of dave_jax.
        parts: 0 none; 1 the head and the last norm; `1 + m` also the last m blocks; depth + 2 everything.
        key: of the random parameters.

    Raises:
        TypeError: the model is none of ours.
        ValueError: parts that the model does not have.

    Example:
        >>> import dave_jax as dave
        >>> model = dave.testing.tiny_model()
        >>> other = randomise(model, 1, key=jax.random.key(0))
        >>> same = jax.tree.map(lambda a, b: bool((a == b).all()), model.params, other.params)
        >>> same["head"]["kernel"], same["blocks"]["mlp"]["fc1"]["kernel"], same["position_embedding"]
        (False, True, True)
    """
    depth = _depth(model)
    if not 0 <= parts <= depth + 2:
        raise ValueError(f"parts must lie in 0 to {depth + 2}: the head, {depth} blocks, and the embedding; got {parts}.")
    return dataclasses.replace(model, params=_redraw(depth, model.params, parts, key))


def _depth(model: Model) -> int:
    if not isinstance(model.forward, ViT):
        raise TypeError(
            f"Only the parameters of a vision transformer of dave_jax have a known order; {model.name!r} is a "
            f"{type(model.forward).__name__}. Load the checkpoint with dave.load."
        )
    return model.forward.config.depth


@partial(jax.jit, static_argnums=0)
def _redraw(depth: int, params: Any, parts: Any, key: PRNGKeyArray) -> Any:
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    chosen = []
    for number, (path, leaf) in enumerate(leaves):
        leaf_key = jax.random.fold_in(key, np.uint32(number))
        if path[0].key == "blocks":
            drawn = jax.vmap(_draw)(jax.random.split(leaf_key, depth), leaf)
            random = (jnp.arange(depth) >= depth + 1 - parts).reshape(-1, *(1,) * (leaf.ndim - 1))
        else:
            drawn = _draw(leaf_key, leaf)
            random = parts >= (1 if path[0].key in HEAD else depth + 2)
        chosen.append(jnp.where(random, drawn, leaf))
    return jax.tree.unflatten(structure, chosen)


def _draw(key: PRNGKeyArray, leaf: Array) -> Array:
    return jax.random.choice(key, leaf.ravel(), leaf.shape)
