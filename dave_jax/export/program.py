"""The whole explanation as one function of arrays, lowered for several platforms at once.

    weights (where they are not inside), images, targets, key --> {"maps", "logits", "targets"}

An exception cannot leave such a program, so what `explain` refuses gives a map of NaN: pixels that are not finite, ids of no class.
"""

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

import jax
import jax.export  # an attribute of jax only once it is imported
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, PRNGKeyArray, UInt32

from dave_jax.attribution.fit import fitted
from dave_jax.attribution.inputs import image_id
from dave_jax.attribution.neighbourhood import attribute_image
from dave_jax.attribution.postprocess import postprocess
from dave_jax.config import DaveConfig
from dave_jax.effective.decomposition import Decomposition
from dave_jax.models.model import Model, count_classes

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""JAX's names."""

PRNG = "threefry2x32"
"""What draws the samples, on every platform the same."""

MOST_INSIDE = 2**31 - 2**26
"""Bytes of weights that a program holds: its format counts to 2 GiB."""

_DECIDED = ("precision", "warp_adjoint", "chunk_size", "mad_pilot")
"""What `fitted` decides for a platform."""

_BACKENDS = {"cuda": "gpu", "rocm": "gpu"}


@dataclasses.dataclass(frozen=True)
class Program:
    """A lowered program; from `lower`.

    Attributes:
        exported: of JAX.
        configs: the settings by platform, with what the model's leave open.
        names: of the weights that it takes, in the order in which it takes them; empty where they are inside.
        inputs: name to shape and dtype, without the weights.
        outputs: name to shape and dtype.
    """

    exported: jax.export.Exported
    configs: dict[str, DaveConfig]
    names: tuple[str, ...]
    inputs: dict[str, Any]
    outputs: dict[str, Any]


def lower(
    model: Model,
    rules: Decomposition,
    *,
    config: DaveConfig,
    batch: int | str,
    platforms: Sequence[str],
    num_targets: int,
    target_kind: str,
    inside: bool,
) -> Program:
    """Trace and lower; nothing is computed. Arguments as of `export`, with `inside` for its weights.

    Raises:
        ValueError: arguments out of range, or a model that JAX cannot write down.
    """
    check(batch, platforms, num_targets, target_kind)
    classes = count_classes(model, jnp.float32)
    if num_targets > classes:
        raise ValueError(f"num_targets must be at most {classes}, the number of the model's classes; got {num_targets}.")
    weights = named_weights(model)
    if inside and (size := sum(leaf.size * leaf.dtype.itemsize for leaf in weights.values())) > MOST_INSIDE:
        raise ValueError(f"A program holds at most 2 GiB of weights, and the model's take {size / 2**30:.1f} GiB. Use weights='beside'.")
    image = jax.ShapeDtypeStruct((*model.preprocessing.image_size, 3), jnp.float32)
    configs = {name: fitted(config, model, rules, image, num_targets, platform=_BACKENDS.get(name, name)) for name in platforms}
    count = jax.export.symbolic_shape("batch")[0] if batch == "any" else batch
    inputs = {"images": jax.ShapeDtypeStruct((count, *image.shape), jnp.float32)}
    if target_kind == "id":
        inputs["targets"] = jax.ShapeDtypeStruct((count, num_targets), jnp.int32)
    elif target_kind == "cotangent":
        inputs["targets"] = jax.ShapeDtypeStruct((count, num_targets, classes), jnp.float32)
    inputs["key"] = jax.ShapeDtypeStruct((2,), jnp.uint32)
    structure = jax.tree.structure(model.params)

    def program(weights: dict[str, Array], *arguments: Array) -> dict[str, Array]:
        params = jax.tree.unflatten(structure, [weights[name] for name in order])
        images, *given, key = arguments
        return _explanation(model, rules, configs, params, images, given[0] if given else num_targets, key)

    order = list(weights)
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in weights.items()}
    function = (lambda *arguments: program(weights, *arguments)) if inside else program
    try:
        exported = jax.export.export(jax.jit(function), platforms=list(platforms))(*([] if inside else [shapes]), *inputs.values())
    except Exception as error:  # what JAX cannot lower for another platform, or write down, it says in many ways
        remedy = "a number for the batch, or " if batch == "any" else ""
        raise ValueError(
            f"{model.name!r} cannot be exported for {', '.join(platforms)} with a batch of {batch}: {_first_line(error)} Try {remedy}fewer "
            "platforms; calls back into Python and kernels of one device's own cannot be written to a file."
        ) from error
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return Program(exported, configs, () if inside else tuple(sorted(order)), inputs, outputs)


def named_weights(model: Model) -> dict[str, Array]:
    """The parameters' arrays by their paths, `blocks/mlp/fc1/kernel`, in the order of the pytree.

    Example:
        >>> from dave_jax.testing import tiny_model
        >>> next(iter(named_weights(tiny_model())))
        'blocks/attention/key/bias'
    """
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.params):
        found[jax.tree_util.keystr(path, simple=True, separator="/") or "params"] = jnp.asarray(leaf)
    return found


def _explanation(
    model: Model,
    rules: Decomposition,
    configs: dict[str, DaveConfig],
    params: Any,
    images: Float[Array, "b h w 3"],
    targets: Integer[Array, "b k"] | Float[Array, "b k classes"] | int,
    key: UInt32[Array, "2"],
) -> dict[str, Array]:
    """Maps and logits, and the targets where they are the most probable classes; traced."""
    logits = jax.lax.map(lambda image: model.forward(params, image, "gradient"), images)
    found = {"logits": logits}
    if isinstance(targets, int):
        targets = found["targets"] = jax.lax.top_k(logits, targets)[1].astype(jnp.int32)
    known = jnp.isfinite(images).all(axis=(1, 2, 3))[:, None]
    if jnp.issubdtype(targets.dtype, jnp.integer):
        known = known & (targets >= 0) & (targets < logits.shape[1])
        targets = jax.nn.one_hot(targets, logits.shape[1], dtype=images.dtype)
    else:
        known = known & jnp.isfinite(targets).all(axis=2)

    def maps_with(config: DaveConfig) -> Any:
        def one(params: Any, key: PRNGKeyArray, image: Array, cotangents: Array) -> Array:
            own = jax.random.fold_in(key, image_id(image))
            raw, _ = attribute_image(model.forward, rules, params, image, cotangents, own, config)
            return jax.vmap(lambda attribution: postprocess(attribution, config))(raw)

        return lambda params, key, *batch: jax.lax.map(lambda job: one(params, key, *job), batch)

    alike: dict[tuple[Any, ...], Any] = {}  # platforms of the same settings share a program
    branches = {
        name: alike.setdefault(tuple(getattr(config, field) for field in _DECIDED), maps_with(config)) for name, config in configs.items()
    }
    arguments = params, jax.random.wrap_key_data(key, impl=PRNG), images, targets
    maps = next(iter(alike.values()))(*arguments) if len(alike) == 1 else jax.lax.platform_dependent(*arguments, **branches)
    return found | {"maps": jnp.where(known[..., None, None], maps, jnp.nan)}


def check(batch: Any, platforms: Sequence[str], num_targets: int, target_kind: str) -> None:
    """Raise where arguments of `lower` are out of range, whatever the model.

    Raises:
        ValueError: they are.
    """
    if batch != "any" and (not isinstance(batch, int) or isinstance(batch, bool) or batch < 1):
        raise ValueError(f"batch must be a number of images of at least 1, or 'any'; got {batch!r}.")
    if isinstance(platforms, str) or not platforms or len(set(platforms)) != len(platforms):
        raise ValueError(f"platforms must be names of {list(PLATFORMS)}, each once; got {platforms!r}.")
    for name in platforms:
        if name not in PLATFORMS:
            near = ["cuda", "rocm"] if name == "gpu" else difflib.get_close_matches(str(name), PLATFORMS, n=1)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"A platform is one of {list(PLATFORMS)}; got {name!r}.{hint}")
    if target_kind not in ("id", "cotangent", "top"):
        raise ValueError(f"target_kind must be 'id', 'cotangent' or 'top'; got {target_kind!r}.")
    if num_targets < 1:
        raise ValueError(f"num_targets must be at least 1; got {num_targets}.")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".") + "."
