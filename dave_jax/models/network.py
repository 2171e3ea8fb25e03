"""`Network`: what the networks of dave_jax have in common; `Encoded`: those that see something made of the image."""

import abc
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.operators import Operator
from dave_jax.effective.precision import cast, narrow, packed, unpacked


class Network(abc.ABC):
    """A forward pass made of layers that return their operators: a hashable function of parameters and one image."""

    def __call__(
        self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "gradient"
    ) -> Float[Array, " classes"]:
        """Logits of one normalised image; the decomposition changes their derivative only.

        With parameters in half precision the network computes in it; the logits are in the image's type all the same.
        """
        return narrow(self.logits(params, image.astype(jnp.bfloat16) if in_half(params) else image, decomposition), image)

    def logits(self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition) -> Float[Array, " classes"]:
        """The logits of `operators`; a network that needs not compute every operator for them says so here."""
        return self.operators(params, image, decomposition)[0]

    @abc.abstractmethod
    def operators(
        self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "effective"
    ) -> tuple[Float[Array, " classes"], dict[str, Any]]:
        """Logits and the operators that made them."""


class Encoded(Network):
    """A network that sees several channels made of each of the image's, such as [x, 1 - x]: its input is these, not the image."""

    @abc.abstractmethod
    def channels(self, params: Any, image: Float[Array, "h w 3"]) -> tuple[Float[Array, "h w channels"], Operator]:
        """What the network sees of an image, three channels after three, and the operator from the image to it."""

    @abc.abstractmethod
    def on_channels(
        self, params: Any, channels: Float[Array, "h w channels"], decomposition: str | Decomposition = "effective"
    ) -> tuple[Float[Array, " classes"], dict[str, Any]]:
        """Logits of what `channels` returns, and the operators that made them."""


def in_half(params: Any) -> bool:
    """Whether all parameters of a network of ours are in bfloat16.

    Example:
        >>> in_half({"kernel": jnp.ones(2, jnp.bfloat16)}), in_half({"kernel": jnp.ones(2)})
        (True, False)
    """
    return all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(params))


def in_precision(forward: Any, params: Any, precision: str | None, dtype: Any) -> Any:
    """The parameters with which a network of ours computes in a precision: rounded once, and not in every pass.

    Args:
        forward: the forward pass; the parameters of one that is not ours stay as they are.
        params: its parameters.
        precision: `bfloat16` for all of them; `bfloat16_products` for the kernels of dense layers, those of stacked blocks `packed`, with
            the others in the images' type; or `float32`, which stands for the images' type where some are in bfloat16.
        dtype: the images' type.

    Example:
        >>> from dave_jax.testing import tiny_model
        >>> model = tiny_model()
        >>> half = in_precision(model.forward, model.params, "bfloat16", jnp.float32)
        >>> in_half(half), in_half(in_precision(model.forward, half, "float32", jnp.float32))
        (True, False)
    """
    if not isinstance(forward, Network):
        return params
    params = jax.tree.map(unpacked, params)
    if precision == "bfloat16_products":
        return jax.tree_util.tree_map_with_path(partial(_for_products, dtype), params)
    if precision == "bfloat16":
        return cast(params, jnp.bfloat16)
    rounded = any(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(params))
    return cast(params, dtype) if rounded else params


def _for_products(dtype: Any, path: tuple[Any, ...], leaf: Array) -> Array:
    """A parameter in `bfloat16_products`. The kernel of a dense layer has two axes, of one in every block three, of a convolution four."""
    if path[-1] != jax.tree_util.DictKey("kernel") or leaf.ndim > 3:
        return cast(leaf, dtype)
    rounded = cast(leaf, jnp.bfloat16)
    return packed(rounded) if leaf.ndim == 3 else rounded
