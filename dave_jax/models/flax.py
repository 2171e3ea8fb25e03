"""Flax at the edge: explain any `flax.nnx` or `flax.linen` module, and the vision transformer as an nnx module.

A module is traced (see `dave_jax.decompose`) and needs no change. One whose call takes a keyword `decomposition` is believed to obey it
instead, as those do that are built of `dave_jax.effective.layers`.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.trace.kinds import Policy
from dave_jax.models.model import Model
from dave_jax.models.traced import Traced
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig, init_params

Call = Callable[[Any, Any], Any]
"""`call(module, image) -> logits`: how a module is applied to one image (h, w, 3)."""


@dataclasses.dataclass(frozen=True)
class NnxForward:
    """The forward pass of an nnx module built of our layers, its state given as parameters."""

    graph: nnx.GraphDef

    def __call__(self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition) -> Float[Array, " classes"]:
        """Logits of one image."""
        return nnx.merge(self.graph, params)(image, decomposition=decomposition)


@dataclasses.dataclass(frozen=True)
class NnxApply:
    """An nnx module as a function of its state and one image."""

    graph: nnx.GraphDef
    call: Call | None

    def __call__(self, params: Any, image: Float[Array, "h w 3"]) -> Any:
        """Logits of one image: no dropout, batch norms with their running averages."""
        module = nnx.merge(self.graph, params)
        module.eval()
        return module(image) if self.call is None else self.call(module, image)


@dataclasses.dataclass(frozen=True)
class LinenForward:
    """The forward pass of a linen module built of our layers, its variables given as parameters."""

    module: Any

    def __call__(self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition) -> Float[Array, " classes"]:
        """Logits of one image."""
        return self.module.apply(params, image, decomposition=decomposition)


@dataclasses.dataclass(frozen=True)
class LinenApply:
    """A linen module as a function of its variables and one image."""

    module: Any
    call: Call | None

    def __call__(self, params: Any, image: Float[Array, "h w 3"]) -> Any:
        """Logits of one image."""
        return self.module.apply(params, image, method=self.call)


def from_nnx(module: nnx.Module, *, call: Call | None = None, gate: Policy = "gate", **fields: Any) -> Model:
    """A model from an nnx module.

    Args:
        module: it is explained in its `eval()` mode, and not changed.
        call: `call(module, image) -> logits` for one image (h, w, 3); by default `module(image)`. A network that takes batches:
            `lambda module, image: module(image[None])[0]`, defined once, as a model with another function compiles anew.
        gate: as in `dave_jax.decompose`.
        fields: those of `Model` (preprocessing, class_names, config, name, source).

    Example:
        >>> import jax.numpy as jnp
        >>> import dave_jax as dave
        >>> class Network(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.conv, self.head = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Linear(4, 5, rngs=rngs)
        ...     def __call__(self, image):
        ...         return self.head(nnx.gelu(self.conv(image)).mean((0, 1)))
        >>> model = from_nnx(Network(nnx.Rngs(0)), preprocessing=dave.Preprocessing(image_size=(16, 16)))
        >>> model.logits(jnp.ones((1, 16, 16, 3))).shape
        (1, 5)
    """
    graph, state = nnx.split(module)
    fields.setdefault("name", type(module).__name__)
    params = nnx.to_pure_dict(state)  # arrays under their names, by which `bias_contributions` finds those that are biases
    forward = NnxForward(graph) if call is None and _obeys(module) else Traced(NnxApply(graph, call), gate)
    return Model(params=params, forward=forward, **fields)


def from_linen(module: Any, variables: Any, *, call: Call | None = None, gate: Policy = "gate", **fields: Any) -> Model:
    """A model from a linen module and its variables.

    Args:
        module: the module.
        variables: as `module.apply` takes them: parameters, and the running averages of batch norms.
        call: `call(module, image) -> logits` for one image (h, w, 3), with the module bound to its variables; by default `module(image)`.
            Often `lambda module, image: module(image[None], train=False)[0]`, defined once, as a model with another function compiles
            anew.
        gate: as in `dave_jax.decompose`.
        fields: those of `Model` (preprocessing, class_names, config, name, source).

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import linen
        >>> class Network(linen.Module):
        ...     @linen.compact
        ...     def __call__(self, image):
        ...         return linen.Dense(3)(linen.gelu(linen.Conv(4, (7, 7), strides=7)(image)).mean((0, 1)))
        >>> image = jnp.ones((224, 224, 3))
        >>> model = from_linen(Network(), Network().init(jax.random.key(0), image))
        >>> model.logits(image[None]).shape
        (1, 3)
    """
    fields.setdefault("name", type(module).__name__)
    forward = LinenForward(module) if call is None and _obeys(module) else Traced(LinenApply(module, call), gate)
    return Model(params=variables, forward=forward, **fields)


def _obeys(module: Any) -> bool:
    """Whether a module takes a decomposition."""
    return "decomposition" in inspect.signature(type(module).__call__).parameters


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
