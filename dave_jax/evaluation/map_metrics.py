"""Metrics of the maps themselves: where they lie, and what happens to the prediction in their order."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from dave_jax.evaluation import discrimination, grid, localisation, perturbation
from dave_jax.evaluation.metric import Case, Metric, Scores, numbers
from dave_jax.evaluation.perturbation import PerturbationCurves, PerturbationProtocol
from dave_jax.models.vit import ViT


@dataclasses.dataclass(frozen=True)
class GridPG(Metric):
    """The grid pointing game, the model seeing the whole mosaic (`interpolate`) or windows of it (`stride`); see `grid`."""

    grid_mode: Literal["interpolate", "stride"] = "interpolate"
    smoothing: int = 1

    needs, headline, percent = "mosaic", "share", True

    def score(self, case: Case) -> Scores:
        """`share` of each cell's map inside its cell."""
        maps = case.maps
        if self.grid_mode != "interpolate":
            maps = grid.explain_mosaic(case.explain, case.model, case.image, case.targets, grid_mode=self.grid_mode)
        cells = jnp.arange(len(case.targets))
        return {"share": grid.grid_pointing_game(maps, cells, round(len(cells) ** 0.5), smoothing=self.smoothing)}


@dataclasses.dataclass(frozen=True)
class GridDiscrimination(Metric):
    """How the maps of a mosaic's classes differ; see `discrimination`."""

    needs, headline = "mosaic", "distance"

    def score(self, case: Case) -> Scores:
        """`distance`, and positive mass `shared`."""
        return numbers(discrimination.discrimination(case.maps))


@dataclasses.dataclass(frozen=True)
class EnergyPG(Metric):
    """The share of a map's positive mass inside the object's boxes or mask; see `localisation.energy_in_region`."""

    smoothing: int = 1

    needs, headline, percent = "region", "share", True

    def score(self, case: Case) -> Scores:
        """`share`."""
        assert case.regions is not None
        return {"share": localisation.energy_in_region(case.maps, case.regions, smoothing=self.smoothing)[0]}


@dataclasses.dataclass(frozen=True)
class Pointing(Metric):
    """Whether the map's highest pixel lies on the object; see `localisation.pointing_game`."""

    needs, headline, percent = "region", "hit", True

    def score(self, case: Case) -> Scores:
        """`hit`: 1 or 0."""
        assert case.regions is not None
        return {"hit": localisation.pointing_game(case.maps, case.regions)[0]}


@dataclasses.dataclass(frozen=True)
class RankAccuracy(Metric):
    """The share of the highest pixels, as many as the object has, that lie on it; see `localisation.relevance_rank_accuracy`."""

    needs, headline, percent = "region", "share", True

    def score(self, case: Case) -> Scores:
        """`share`."""
        assert case.regions is not None
        return {"share": localisation.relevance_rank_accuracy(case.maps, case.regions)[0]}


@dataclasses.dataclass(frozen=True)
class Perturbation(Metric):
    """Deletion of the least important pixels first, or insertion of the most important ones; see `perturbation`."""

    protocol: PerturbationProtocol = PerturbationProtocol()

    needs, headline, percent = "photograph", "area", True
    curves = ("shares", "probabilities", "logits")

    def score(self, case: Case) -> Scores:
        """`area` under the curve of probabilities, `logit_area`, and the curves."""
        found = _curves(case, self.protocol)
        areas = {"area": _area(found.probabilities, found), "logit_area": _area(found.logits, found)}
        return areas | {"shares": found.shares, "probabilities": found.probabilities[0], "logits": found.logits[0]}


@dataclasses.dataclass(frozen=True)
class DeletionOfMost(Perturbation):
    """Deletion of the most important pixels first: a good map makes the probability fall."""

    protocol: PerturbationProtocol = PerturbationProtocol(first="most")

    higher_is_better = False


@dataclasses.dataclass(frozen=True)
class RelevanceGain(Metric):
    """The symmetric relevance gain, over patches of the model; see `perturbation.symmetric_relevance_gain`."""

    protocol: PerturbationProtocol = PerturbationProtocol(fill="mean", fraction=1.0, points=32, ties="random")

    needs, headline = "photograph", "gain"

    def score(self, case: Case) -> Scores:
        """`gain` in logits, `probability_gain`."""
        forward = case.model.forward
        size = forward.config.patch_size[0] if isinstance(forward, ViT) else self.protocol.patch_size
        protocol = dataclasses.replace(self.protocol, patch_size=size)
        least, most = (_curves(case, dataclasses.replace(protocol, first=first)) for first in ("least", "most"))
        logits, probabilities = (perturbation.symmetric_relevance_gain(least, most, of=of)[0] for of in ("logits", "probabilities"))
        return {"gain": logits, "probability_gain": probabilities}


def _curves(case: Case, protocol: PerturbationProtocol) -> PerturbationCurves:
    return perturbation.perturbation_curves(case.model, case.image[None], case.targets, case.maps, protocol=protocol)


def _area(values: jax.Array, found: PerturbationCurves) -> float:
    return float(perturbation.area_under_curve(values, found.shares)[0])
