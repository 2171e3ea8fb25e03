"""From scores to numbers: means over subjects with bootstrapped intervals, differences to one method, and what a map costs."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dave_jax.evaluation.log import plain, read_lines
from dave_jax.evaluation.metric import Metric
from dave_jax.evaluation.statistics import bootstrap, bootstrap_difference

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""`rows[method][subject][metric]`: scores."""


def summarise(folder: Path, metrics: Mapping[str, Metric], seed: int) -> dict[str, Any]:
    """What `run` wrote, in numbers.

    Returns:
        `methods`: for each method, metric and score a `statistics.Estimate` (mean, low, high of the 95 % interval, standard_error, count,
        missing), or of a curve its mean; `differences`: for each further method and metric the estimate of its headline minus that of the
        first method, subject by subject; `reference`: that method.
    """
    rows: dict[str, dict[str, Any]] = {}
    for line in read_lines(folder / "scores.jsonl"):
        rows.setdefault(line["method"], {})[line["subject"]] = line["scores"]
    reference = next(iter(rows), None)
    return {
        "methods": {method: {name: _scores(rows[method], name, metric, seed) for name, metric in metrics.items()} for method in rows},
        "reference": reference,
        "differences": {
            method: {name: _difference(rows, method, reference, name, metric, seed) for name, metric in metrics.items()}
            for method in rows
            if method != reference
        },
    }


def _scores(rows: Mapping[str, Any], name: str, metric: Metric, seed: int) -> dict[str, Any]:
    found = [scores[name] for scores in rows.values() if name in scores]
    return {score: _curve(found, score) if score in metric.curves else _estimate(found, score, seed) for score in (found or [{}])[0]}


def _curve(found: Sequence[Mapping[str, Any]], score: str) -> list[float | None]:
    return plain(np.mean([row[score] for row in found], axis=0))


def _estimate(found: Sequence[Mapping[str, Any]], score: str, seed: int) -> dict[str, Any]:
    return plain(dataclasses.asdict(bootstrap(_values(row[score] for row in found), seed)))


def _difference(rows: Rows, method: str, reference: str | None, name: str, metric: Metric, seed: int) -> dict[str, Any] | None:
    assert reference is not None  # there is a method, so there is a first one
    both = [subject for subject, scores in rows[method].items() if name in scores and subject in rows[reference]]
    if not both:
        return None
    own, other = (_values(rows[which][subject][name][metric.headline] for subject in both) for which in (method, reference))
    return plain(dataclasses.asdict(bootstrap_difference(own, other, seed)))


def _values(scores: Iterable[Any]) -> np.ndarray:
    """One score or one row of scores for each subject; None becomes NaN, alone or for a row."""
    found = list(scores)
    width = next((len(score) for score in found if isinstance(score, list)), None)
    return np.array([score if score is not None or width is None else [None] * width for score in found], np.float64)


def seconds_per_map(folder: Path) -> dict[str, float]:
    """The median of each method over photographs, or over the cells of mosaics where there are no photographs."""
    found: dict[str, dict[bool, list[float]]] = {}
    for line in read_lines(folder / "timing.jsonl"):
        found.setdefault(line["method"], {}).setdefault(line["maps"] == 1, []).append(line["seconds"] / line["maps"])
    return {method: float(np.median(times.get(True) or times[False])) for method, times in found.items()}
