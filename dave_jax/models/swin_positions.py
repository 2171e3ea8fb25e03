"""What tells the places of a Swin transformer's windows apart: the bias of its attention scores, and it at another image size."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dave_jax.effective.precision import cast, unpacked, wide_dtype
from dave_jax.effective.window_attention import Windows
from dave_jax.models.relative import relative_bias, resample_relative
from dave_jax.models.swin_config import SwinConfig

LARGEST_BIAS = 16.0
"""The most that V2 adds to a score."""


def coordinates(window: tuple[int, int], pretrained: int = 0) -> Float[np.ndarray, "entries 2"]:
    """V2's log-spaced differences between places, in the order of a table's entries: `sign(d) log2(1 + 8 |d| / (n - 1)) / 3`.

    Args:
        window: rows and columns.
        pretrained: n, the edge of the window in training; 0 takes the window's own.

    Example:
        >>> coordinates((1, 2)).tolist()
        [[0.0, -1.0566416671474375], [0.0, 0.0], [0.0, 1.0566416671474375]]
    """
    axes = []
    for edge in window:
        distance = 8 * np.arange(1 - edge, edge) / max((pretrained or edge) - 1, 1)
        axes.append(np.sign(distance) * np.log2(1 + np.abs(distance)) / np.log2(8))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def window_bias(attention: Mapping[str, Any], windows: Windows, *, pretrained: int = 0) -> Float[Array, "heads places places"]:
    """The relative position bias of a window's scores: of V1 from its table, of V2 `16 sigmoid(fc2(relu(fc1(coordinates))))`.

    Args:
        attention: a block's parameters of attention, with `relative_position` or `position_mlp`.
        windows: how the map is cut.
        pretrained: see `coordinates`.
    """
    if "relative_position" in attention:
        return relative_bias(attention["relative_position"], windows.window, class_token=False)
    network = jax.tree.map(unpacked, attention["position_mlp"])
    first, second = (cast(network[name], wide_dtype(network["fc1"]["kernel"])) for name in ("fc1", "fc2"))
    places = jnp.asarray(coordinates(windows.window, pretrained), first["kernel"].dtype)
    hidden = jnp.maximum(places @ first["kernel"] + first["offset"][None], 0)
    table = LARGEST_BIAS * jax.nn.sigmoid(hidden @ second["kernel"])
    return relative_bias(table, windows.window, class_token=False)


def table_resamplings(config: SwinConfig, old_size: tuple[int, int] | None) -> dict[str, Callable[[Any], Any]]:
    """By the path of each table of relative position bias, how it becomes that of the configuration's windows.

    Smaller maps have smaller windows. V2 has no tables, and nothing to resample.

    Args:
        config: the network at its new image size.
        old_size: height and width of the images that the tables are for, or None: their windows are then inferred.
    """
    found = {}
    for stage in range(len(config.depths) if config.version == 1 else 0):
        window, old = config.cuts(stage)[0].window, None
        if old_size is not None:
            old = at_size(config, old_size).cuts(stage)[0].window

        def change(table, window=window, old=old):
            return resample_relative(table, window, old_grid=old, class_token=False)

        found[f"stages/{stage}/blocks/attention/relative_position"] = change
    return found


def at_size(config: SwinConfig, image_size: tuple[int, int]) -> SwinConfig:
    """The configuration for images of that size, multiples of the patch size."""
    return dataclasses.replace(config, image_size=image_size)
