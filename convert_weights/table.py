"""A conversion is a table: which arrays of a checkpoint become which parameters, and how.

`convert` applies one and keeps accounts on both sides: every array of the checkpoint used or named as ignored, every parameter found,
every shape right. All that is wrong comes in one error.
"""

import dataclasses
import math
import mmap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row: the checkpoint's key (`{i}` stands for the block), the parameter's path (`/` between levels), and the change of layout.

    Blocks are counted from `first`.
    """

    source: str
    target: str
    layout: Callable[[np.ndarray], np.ndarray]
    first: int = 0


class ConversionError(ValueError):
    """A checkpoint that does not fit its architecture; the message lists everything that is wrong."""


def flatten(tree: Any) -> dict[str, Any]:
    """A nested dict as one with paths for keys: `{"a": {"b": 1}}` to `{"a/b": 1}`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(part.key for part in path): leaf for path, leaf in leaves}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def convert(
    arrays: Mapping[str, np.ndarray],
    table: Iterable[Entry],
    expected: Any,
    *,
    ignored: Iterable[str] = (),
    adapt: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
    what: str = "the checkpoint",
    dtype: Any = np.float32,
) -> dict[str, Any]:
    """Convert a checkpoint's arrays by a table.

    Args:
        arrays: the checkpoint.
        table: its rows; those of a key with `{i}` are expanded and stacked over the blocks.
        expected: the parameters' shapes, nested (`jax.eval_shape(init_params, ...)`).
        ignored: keys of the checkpoint that are known and not needed.
        adapt: further changes by target path, after the layout (a position embedding's new size).
        what: what to call the checkpoint in errors.
        dtype: of the parameters; they are rounded to it after all else.

    Returns:
        The nested parameters, on the default device: each goes there as soon as it is whole, the large ones first, so that hardly
        more than one copy of the parameters is in the memory at any time.

    Raises:
        ConversionError: listing missing, leftover and misshapen arrays.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in flatten(expected).items()}
    rows = {row.target: row for row in table}
    problems = [f"the table has no row for parameter {path}" for path in sorted(set(shapes) - set(rows))]
    result: dict[str, jax.Array] = {}
    used: set[str] = set(ignored)
    for target, shape in sorted(shapes.items(), key=lambda item: -math.prod(item[1])):
        if target not in rows:
            continue
        row = rows[target]
        stacked = "{i}" in row.source
        keys = [row.source.format(i=row.first + i) for i in range(shape[0])] if stacked else [row.source]
        used.update(keys)
        missing = [key for key in keys if key not in arrays]
        if missing:
            problems += [f"missing {key} (for {target}, shape {shape})" for key in missing]
            continue
        leaf_shape = shape[1:] if stacked else shape
        destination = None  # made when an array fits: a wrong config.json may ask for any size
        for i, key in enumerate(keys):
            array = arrays[key]
            if not jnp.issubdtype(array.dtype, jnp.floating):  # which knows bfloat16
                problems.append(f"{key} holds {array.dtype}, not floating-point numbers")
                continue
            try:
                value = row.layout(np.asarray(array, np.float32))
                value = (adapt or {}).get(target, lambda array: array)(value)
            except ValueError as error:
                problems.append(f"{key} has shape {array.shape}, which does not fit {target} {leaf_shape} ({error})")
                continue
            if value.shape != leaf_shape:
                problems.append(f"{key} has shape {array.shape}, which becomes {value.shape}; {target} needs {leaf_shape}")
            elif not np.isfinite(value).all():
                problems.append(f"{key} holds values that are not finite")
            else:
                destination = _empty(shape, np.dtype(dtype)) if destination is None else destination
                _copy(value, destination[i] if stacked else destination)
        if destination is not None:
            result[target] = jax.block_until_ready(jax.device_put(destination))  # else copies under way pile up
    problems += [f"leftover {key} {np.shape(arrays[key])}" for key in sorted(set(arrays) - used)]
    if problems:
        listing = "\n  ".join(problems)
        raise ConversionError(
            f"The arrays and the architecture must match one to one; {what} does not ({len(problems)} problems):\n  {listing}\n"
            "Check that the checkpoint is whole and that its config.json names its architecture and constructor options."
        )
    return unflatten({path: result[path] for path in shapes})


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that a CPU device need not copy, for it begins a page."""
    size = math.prod(shape) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    # Of small pages: the huge ones that numpy asks for take several times as long where a virtual machine gets them from its host.
    return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)


def _copy(source: np.ndarray, destination: np.ndarray) -> None:
    """Copy an array, by strips: eight times faster than at once, where the source is transposed, for a strip stays in the cache."""
    if source.ndim < 2:
        destination[...] = source
        return
    for start in range(0, source.shape[-1], 64):
        destination[..., start : start + 64] = source[..., start : start + 64]
