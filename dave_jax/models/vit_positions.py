"""What tells a vision transformer where its patches are, inside attention, and all of it at another image size."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from dave_jax.models.positions import resample_positions
from dave_jax.models.relative import relative_bias, resample_relative
from dave_jax.models.rotary import rotation
from dave_jax.models.vit_config import ViTConfig

RELATIVE = "blocks/attention/relative_position"
"""The path of the tables of relative position bias."""


def attention_positions(params: Mapping[str, Any], config: ViTConfig, dtype: DTypeLike = jnp.float32) -> dict[str, Any]:
    """The rotation of queries and keys and the bias of the scores, those that the network has: keywords of `layers.attention`.

    Args:
        params: of a block's attention.
        config: the network.
        dtype: of the tokens.

    Example:
        >>> from dave_jax.models.rotary import Rotary
        >>> from dave_jax.testing import tiny_model
        >>> model = tiny_model(rotary=Rotary())
        >>> attention_positions({"query": model.params["blocks"]["attention"]["query"]}, model.forward.config)["rotation"].in_shape
        (2, 17, 8)
    """
    found: dict[str, Any] = {}
    if config.rotary:
        found["rotation"] = rotation(
            config.rotary,
            config.grid,
            num_prefix=config.num_prefix,
            num_heads=config.num_heads,
            head_width=config.width // config.num_heads,
            frequencies=params.get("frequencies"),
            dtype=dtype,
        )
    if config.relative_position:
        found["bias"] = relative_bias(params["relative_position"], config.grid)
    return found


def resamplings(config: ViTConfig, old_grid: tuple[int, int] | None) -> dict[str, Callable[[Any], Any]]:
    """By the path of a parameter, how it becomes that of the configuration's grid.

    Args:
        config: the network at its new image size.
        old_grid: rows and columns of patches that the parameters are for; None infers them from each.
    """
    options = {"old_grid": old_grid, "resampling": config.position_resampling}
    num_prefix = config.num_prefix if config.position_on_prefix else 0
    return {
        "position_embedding": lambda array: resample_positions(array, config.grid, num_prefix=num_prefix, **options),
        RELATIVE: lambda array: resample_relative(array, config.grid, **options),
    }


def resampled(params: Mapping[str, Any], config: ViTConfig, old_grid: tuple[int, int] | None) -> dict[str, Any]:
    """The parameters of a network for the configuration's image size, from those for another grid of patches."""
    change = resamplings(config, old_grid)
    result = dict(params)
    if config.position_embedding:
        result["position_embedding"] = change["position_embedding"](params["position_embedding"])
    if config.relative_position:
        attention = params["blocks"]["attention"]
        table = change[RELATIVE](attention["relative_position"])
        result["blocks"] = params["blocks"] | {"attention": attention | {"relative_position": table}}
    return result
