"""`register_pytree`: dataclasses as pytrees whose structures differ where their classes do."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def register_pytree(cls: type[T], data: Iterable[str], meta: Iterable[str] = ()) -> type[T]:
    """Make a dataclass a pytree: the fields `data` are its children, the fields `meta` are static (hashable, compared with `==`).

    `jax.tree_util.register_dataclass` does the same, but two of its classes with the same static values have equal structures (in jax
    0.10.2 and 0.12.0.1). `jit` looks programs up by structure, so that one class is given the program of another wherever their hashes
    happen to meet, one time in sixty. The structures of what is registered here are compared with the class.

    Raises:
        ValueError: data and meta are not the fields of the class, each once.

    Example:
        >>> import dataclasses
        >>> left, right = (dataclasses.make_dataclass(name, ["x", "side"]) for name in ("Left", "Right"))
        >>> trees = [register_pytree(cls, ["x"], ["side"])(1.0, 2) for cls in (left, right)]
        >>> jax.tree.leaves(trees), jax.tree.structure(trees[0]) == jax.tree.structure(trees[1])
        ([1.0, 1.0], False)
    """
    data, meta = tuple(data), tuple(meta)
    names = [field.name for field in fields(cls)]  # pyright: ignore[reportArgumentType] any dataclass
    if sorted(data + meta) != sorted(names):
        raise ValueError(f"data and meta must be the fields of {cls.__name__}, each once: {names}; got {[*data, *meta]}.")
    keys = [jax.tree_util.GetAttrKey(name) for name in data]

    def flatten(tree: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(tree, name) for name in data), tuple(getattr(tree, name) for name in meta)

    def flatten_with_keys(tree: T) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        children, static = flatten(tree)
        return tuple(zip(keys, children, strict=True)), static

    def unflatten(static: tuple[Any, ...], children: Iterable[Any]) -> T:
        return cls(**dict(zip(data, children, strict=True)), **dict(zip(meta, static, strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
