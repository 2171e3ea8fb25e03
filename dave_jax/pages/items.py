"""What several stores have maps of in common: the photographs and classes that people are to compare."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dave_jax.batch.layout import EXPLAINED
from dave_jax.batch.maps import Maps
from dave_jax.evaluation.log import difference


@dataclasses.dataclass(frozen=True)
class Item:
    """A photograph and a class.

    Attributes:
        name: of the photograph.
        target: the class's name.
        places: in each store, the photograph's number and the class's place among its targets.
    """

    name: str
    target: str
    places: tuple[tuple[int, int], ...]


def label_stores(places: Sequence[str]) -> list[str]:
    """What to call stores: the names of their folders, with the folders above where these are equal.

    Example:
        >>> label_stores(["runs/dave.zarr", "runs/lrp.zarr"]), label_stores(["a/maps.zarr", "b/maps.zarr"])
        (['dave', 'lrp'], ['a/maps.zarr', 'b/maps.zarr'])
    """
    names = [Path(place).name.removesuffix(".zarr") for place in places]
    return names if len(set(names)) == len(names) else list(places)


def common_items(stores: Mapping[str, Maps], *, intersection: bool = False) -> list[Item]:
    """The photographs and classes that stores have maps of, in the first store's order.

    Args:
        stores: by name.
        intersection: whether to leave out what only some have.

    Raises:
        ValueError: the stores hold the same run twice, see photographs differently, or (unless `intersection`) have others; the message
            says what differs.
    """
    _check_runs(stores)
    found = {name: _places(maps) for name, maps in stores.items()}
    first, *others = found.values()
    common = [key for key in first if all(key in other for other in others)]
    apart = {name: [key for key in places if key not in set(common)] for name, places in found.items()}
    if any(apart.values()) and not intersection:
        parts = [f"{name!r} has {_count(keys)} that not all have ({_example(keys)})" for name, keys in apart.items() if keys]
        raise ValueError(
            f"The stores must have maps of the same photographs and classes: {'; '.join(parts)}. "
            f"Finish or repeat the runs, or take the {_count(common)} that all have with --intersection."
        )
    if not common:
        raise ValueError("The stores have no map of the same photograph and class. Explain the same photographs, for the same classes.")
    return [Item(*key, tuple(places[key] for places in found.values())) for key in common]


def _check_runs(stores: Mapping[str, Maps]) -> None:
    (first, reference), *others = stores.items()
    for number, (name, maps) in enumerate(others, start=1):
        for earlier, other in list(stores.items())[:number]:
            if maps.attributes["run"] == other.attributes["run"]:
                raise ValueError(f"{earlier!r} and {name!r} hold the same run: there is nothing to compare. Name each store once.")
        found = difference(_sight(reference), _sight(maps))
        if found:
            raise ValueError(f"{first!r} and {name!r} do not see photographs alike ({'; '.join(found)}): their maps lie on other crops.")
        data = [one.attributes["run"]["data"]["fingerprint"] for one in (reference, maps)]
        if data[0] != data[1] and None in (reference.attributes.get("source"), maps.attributes.get("source")):
            raise ValueError(f"{first!r} and {name!r} explain other photographs, which were in memory and have no names to compare.")


def _sight(maps: Maps) -> dict[str, object]:
    """What of a photograph a model sees, and at what size."""
    settings = maps.attributes["run"]["model"]["preprocessing"]
    return {name: value for name, value in settings.items() if name not in ("mean", "std")}


def _places(maps: Maps) -> dict[tuple[str, str], tuple[int, int]]:
    names, targets, classes = maps.names, maps.targets, maps.attributes["class_names"]
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for index in np.flatnonzero(maps.status == EXPLAINED).tolist():
        for place, target in enumerate(targets[index].tolist()):
            found.setdefault((names[index], classes[target] if classes else f"class {target}"), (index, place))
    return found


def _count(keys: Sequence[tuple[str, str]]) -> str:
    return f"{len(keys)} {'map' if len(keys) == 1 else 'maps'}"


def _example(keys: Sequence[tuple[str, str]]) -> str:
    shown = ", ".join(f"{name}: {target}" for name, target in keys[:2])
    return f"{shown}, ..." if len(keys) > 2 else shown
