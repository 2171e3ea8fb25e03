"""Structures of pytrees: what programs are looked up by, so that two classes may not have the same."""

import dataclasses
import importlib
import pkgutil
from itertools import combinations, count

import jax
import jax.numpy as jnp
import pytest

import dave_jax
from dave_jax.attribution.baselines.chefer import GenericAttention, TransformerAttribution
from dave_jax.attribution.baselines.grad_cam import GradCam
from dave_jax.attribution.method import Method
from dave_jax.effective.operators import Operator
from dave_jax.pytree import register_pytree


def pair(register):
    """Two classes with the same fields."""
    return [register(dataclasses.make_dataclass(name, ["array", "static"], frozen=True)) for name in ("Left", "Right")]


def test_methods_with_the_same_settings():
    """Each with the values (0, "nearest")."""
    methods = [GradCam(0, "nearest"), GenericAttention(0, "nearest"), TransformerAttribution(0, "nearest")]
    for one, other in combinations(map(jax.tree.structure, methods), 2):
        assert one != other


def all_classes():
    """Every class of the package's modules."""
    for module in pkgutil.walk_packages(dave_jax.__path__, "dave_jax."):
        if not module.name.endswith("__main__"):
            yield from (found for found in vars(importlib.import_module(module.name)).values() if isinstance(found, type))


def test_all_operators_and_methods():
    """The structure of any two differs, whatever their fields hold."""
    structures = []
    for cls in {cls for cls in all_classes() if dataclasses.is_dataclass(cls) and issubclass(cls, (Operator, Method))}:
        blank = object.__new__(cls)  # past the checks of values
        for field in dataclasses.fields(cls):
            object.__setattr__(blank, field.name, None)
        structures.append(jax.tree.structure(blank))
    assert len(structures) > 40
    assert all(one != other for one, other in combinations(structures, 2))


def test_programs_are_not_confused():
    """Of sixty pairs one was, when classes were registered by `jax.tree_util.register_dataclass`."""
    calls = count()
    for _ in range(100):
        left, right = pair(lambda cls: register_pytree(cls, ["array"], ["static"]))

        @jax.jit
        def sign(tree, left=left):
            next(calls)
            return tree.array if isinstance(tree, left) else -tree.array

        assert (float(sign(left(jnp.ones(()), 0))), float(sign(right(jnp.ones(()), 0)))) == (1.0, -1.0)
    assert next(calls) == 200


def test_paths_and_round_trip():
    cls = pair(lambda cls: register_pytree(cls, ["array"], ["static"]))[0]
    (path, leaf), *rest = jax.tree_util.tree_leaves_with_path(cls(1.0, "x"))
    assert (jax.tree_util.keystr(path), leaf, rest) == (".array", 1.0, [])
    assert jax.tree.map(lambda leaf: leaf + 1, cls(1.0, "x")) == cls(2.0, "x")


@pytest.mark.parametrize("data, meta", [(["array"], []), (["array", "static"], ["static"]), (["array"], ["statics"])])
def test_fields_that_are_not_the_class(data, meta):
    with pytest.raises(ValueError, match="must be the fields of Left, each once"):
        pair(lambda cls: register_pytree(cls, data, meta))
