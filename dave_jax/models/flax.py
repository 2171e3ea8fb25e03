"""Flax at the edge: explain `flax.nnx` and `flax.linen` modules built of our layers, and the vision transformer as an nnx module.

A module qualifies when calling it on one normalised image with a `decomposition` returns logits: `module(image, decomposition=...)`.
Inside it calls the functions of `dave_jax.effective.layers`, which obey the decomposition.
"""

import dataclasses
import inspect
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from dave_jax.effective.decomposition import Decomposition
from dave_jax.models.model import Model
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig, init_params


@dataclasses.dataclass(frozen=True)
class NnxForward:
    """The forward pass of an nnx module, its state given as parameters."""

    graph: nnx.GraphDef

    def __call__(self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition) -> Float[Array, " classes"]:
        """Logits of one image."""
        return nnx.merge(self.graph, params)(image, decomposition=decomposition)


@dataclasses.dataclass(frozen=True)
class LinenForward:
    """The forward pass of a linen module, its variables given as parameters."""

    module: Any

    def __call__(self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition) -> Float[Array, " classes"]:
        """Logits of one image."""
        return self.module.apply(params, image, decomposition=decomposition)


def from_nnx(module: nnx.Module, **fields: Any) -> Model:
    """A model from an nnx module; `fields` are those of `Model` (preprocessing, class_names, config, name, source).

    Raises:
        TypeError: calling the module takes no `decomposition`.

    Example:
        >>> import jax.numpy as jnp
        >>> import dave_jax as dave
        >>> config = ViTConfig(image_size=(16, 16), patch_size=(4, 4), width=16, depth=2, num_heads=2, mlp_width=32, num_classes=5)
        >>> model = from_nnx(NnxViT(config, rngs=nnx.Rngs(0)), preprocessing=dave.Preprocessing(image_size=(16, 16)))
        >>> model.logits(jnp.ones((1, 16, 16, 3))).shape
        (1, 5)
    """
    _check_signature(module)
    graph, state = nnx.split(module)
    fields.setdefault("name", type(module).__name__)
    params = nnx.to_pure_dict(state)  # arrays under their names, by which `bias_contributions` finds those that are biases
    return Model(params=params, forward=NnxForward(graph), **fields)


def from_linen(module: Any, variables: Any, **fields: Any) -> Model:
    """A model from a linen module and its variables; `fields` are those of `Model`.

    Raises:
        TypeError: calling the module takes no `decomposition`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import linen
        >>> from dave_jax.effective import layers
        >>> from dave_jax.effective.decomposition import resolve
        >>> class Linear(linen.Module):
        ...     @linen.compact
        ...     def __call__(self, image, decomposition="gradient"):
        ...         kernel = self.param("kernel", linen.initializers.normal(), (image.size, 3))
        ...         logits, _ = layers.dense({"kernel": kernel}, image.reshape(1, -1), resolve(decomposition))
        ...         return logits[0]
        >>> image = jnp.ones((224, 224, 3))
        >>> model = from_linen(Linear(), Linear().init(jax.random.key(0), image))
        >>> model.logits(image[None]).shape
        (1, 3)
    """
    _check_signature(module)
    fields.setdefault("name", type(module).__name__)
    return Model(params=variables, forward=LinenForward(module), **fields)


def _check_signature(module: Any) -> None:
    parameters = inspect.signature(type(module).__call__).parameters.values()
    if not any(parameter.name == "decomposition" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        raise TypeError(
            f"Calling the module must take one image and a keyword `decomposition`, handed on to dave_jax.effective.layers; "
            f"{type(module).__name__}.__call__ takes {[parameter.name for parameter in parameters]}."
        )


def _as_modules(tree: Any) -> Any:
    """Nested dicts of arrays as nested nnx containers of parameters."""
    if isinstance(tree, dict):
        return nnx.Dict({name: _as_modules(value) for name, value in tree.items()})
    return nnx.Param(tree)


class NnxViT(nnx.Module):
    """The vision transformer as an nnx module, for model zoos: it owns the parameters and calls the same functions.

    Args:
        config: the architecture.
        rngs: draws new parameters from its `params` stream; not needed with `params`.
        params: parameters to wrap, such as those of a loaded model.

    Example:
        >>> import jax.numpy as jnp
        >>> config = ViTConfig(image_size=(8, 8), patch_size=(4, 4), width=8, depth=1, num_heads=2, mlp_width=8, num_classes=3)
        >>> NnxViT(config, rngs=nnx.Rngs(0))(jnp.ones((8, 8, 3))).shape
        (3,)
    """

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs | None = None, params: Any = None):
        if (rngs is None) == (params is None):
            raise ValueError("Give either rngs (to draw parameters) or params (to wrap them).")
        self.config = config
        self.params = _as_modules(params if rngs is None else init_params(rngs.params(), config))

    def __call__(self, image: Float[Array, "h w 3"], *, decomposition: str | Decomposition = "gradient") -> Float[Array, " classes"]:
        """Logits of one normalised image."""
        params = nnx.to_pure_dict(nnx.state(self.params))
        return ViT(self.config)(params, image, decomposition)
