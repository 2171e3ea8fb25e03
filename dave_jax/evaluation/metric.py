"""`Metric`: how good the maps of one subject are. A new one is a class with one function, entered in `metrics.metrics`.

class Inside(Metric):
    needs, headline = "region", "share"

    def score(self, case):
        return {"share": ...}

metrics["inside"] = Inside()                          and `dave-jax evaluate --metrics inside` knows it
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

from dave_jax.attribution.method import Method
from dave_jax.models.model import Model

Scores = Mapping[str, Any]
"""By name: a number, one for each target, or a curve (see `Metric.curves`). NaN is a score that is not defined, like a share of nothing."""


class Case(NamedTuple):
    """One subject with the maps that a method made of it: a photograph with one target, or a mosaic with one for each cell.

    Attributes:
        model: at its own image size. The maps of a mosaic come from `at_image_size(model, (height, width))`.
        method: that made the maps.
        image: normalised; of a mosaic the whole.
        targets: class ids.
        maps: signed, one for each target.
        regions: where each target is; None where that is not known.
        key: for the metric's own randomness; it depends on the run's seed and on the subject only, so that all methods meet the same noise.
        explain: the method again, with the same transforms and noise for every image: `explain(model, images, targets)` gives signed maps
            Float[b h w] for targets Int[b], Float[b k h w] for Int[b k]. What has been computed is not computed again.
    """

    model: Model
    method: Method
    image: Float[Array, "h w 3"]
    targets: Integer[Array, " k"]
    maps: Float[Array, "k h w"]
    regions: Bool[Array, "k h w"] | None
    key: PRNGKeyArray
    explain: Callable[[Model, Any, Any], Float[Array, "..."]]


class Metric(abc.ABC):
    """How good the maps of one subject are.

    Attributes:
        needs: what it is computed on: a `photograph`, one whose object is marked (`region`), or a `mosaic`.
        headline: which of its scores the table shows.
        higher_is_better: of the headline; None if neither is better.
        percent: whether the headline is a share, shown in per cent.
        curves: which of its scores are curves, averaged point by point.
    """

    needs: ClassVar[Literal["photograph", "region", "mosaic"]]
    headline: ClassVar[str]
    higher_is_better: ClassVar[bool | None] = True
    percent: ClassVar[bool] = False
    curves: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def score(self, case: Case) -> Scores:
        """The scores of one subject."""


def numbers(found: Any) -> Mapping[str, Any]:
    """The fields of a result for one image."""
    return {field.name: jnp.ravel(getattr(found, field.name))[0] for field in dataclasses.fields(found)}
