"""Equinox at the edge: any Equinox module as a model. Equinox is no dependency; it is imported when this module is."""

import dataclasses
from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax
from jaxtyping import Array, Float

from dave_jax.effective.trace.kinds import Policy
from dave_jax.models.model import Model
from dave_jax.models.traced import Traced

try:
    equinox: Any = import_module("equinox")  # a name of its own type would fail type checks where it is not installed
except ImportError as error:
    raise ImportError("from_equinox needs Equinox, which is not installed: pip install equinox") from error

Call = Callable[[Any, Any], Any]
"""`call(module, image) -> logits`: how a module is applied to one image (h, w, 3)."""


@dataclasses.dataclass(frozen=True)
class EquinoxApply:
    """An Equinox module as a function of its arrays and one image; what is not an array is kept here."""

    static: tuple[Any, ...]
    structure: Any
    call: Call

    def __call__(self, params: Any, image: Float[Array, "h w 3"]) -> Any:
        """Logits of one image."""
        return self.call(equinox.combine(params, jax.tree.unflatten(self.structure, self.static)), image)


def apply_to_channels_first(module: Any, image: Float[Array, "h w 3"]) -> Any:
    """Equinox's convention: the module takes the image as (3, h, w)."""
    return module(image.transpose(2, 0, 1))


def from_equinox(module: Any, *, call: Call = apply_to_channels_first, gate: Policy = "gate", **fields: Any) -> Model:
    """A model from an Equinox module.

    Args:
        module: it is explained in inference mode, and not changed.
        call: `call(module, image) -> logits` for one image (h, w, 3); by default the module takes it as (3, h, w). A module with a state or
            a key: `lambda module, image: module(image.transpose(2, 0, 1), state)[0]`, defined once, as a model with another function
            compiles anew.
        gate: as in `dave_jax.decompose`.
        fields: those of `Model` (preprocessing, class_names, config, name, source).

    Raises:
        ImportError: Equinox is not installed.

    Example:
        >>> import jax.numpy as jnp
        >>> import dave_jax as dave
        >>> network = equinox.nn.Sequential([equinox.nn.Conv2d(3, 5, 8, key=jax.random.key(0)), equinox.nn.Lambda(jnp.ravel)])
        >>> model = from_equinox(network, preprocessing=dave.Preprocessing(image_size=(8, 8)))
        >>> model.logits(jnp.ones((2, 8, 8, 3))).shape
        (2, 5)
    """
    params, static = equinox.partition(equinox.nn.inference_mode(module), equinox.is_array)
    leaves, structure = jax.tree.flatten(static)
    fields.setdefault("name", type(module).__name__)
    return Model(params=params, forward=Traced(EquinoxApply(tuple(leaves), structure, call), gate), **fields)
