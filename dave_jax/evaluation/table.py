"""Scores as a Markdown table: a row for each method, a column for each metric."""

from collections.abc import Mapping
from typing import Any

from dave_jax.evaluation.metric import Metric

_ARROWS = {True: " ↑", False: " ↓", None: ""}


def table(summary: Mapping[str, Any], metrics: Mapping[str, Metric]) -> str:
    """Means with half of their 95 % intervals, the best of each column in bold; of scores that are not defined, how many.

    Args:
        summary: from `summarise`.
        metrics: by name.
    """
    columns = {name: _column(summary["methods"], name, metric) for name, metric in metrics.items()}
    heads = [f"{name}{', %' if metric.percent else ''}{_ARROWS[metric.higher_is_better]}" for name, metric in metrics.items()]
    rows = [["method", *heads], ["---", *("---:" for _ in metrics)]]
    rows += [[method, *(column[method] for column in columns.values())] for method in summary["methods"]]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def differences(summary: Mapping[str, Any], metrics: Mapping[str, Metric]) -> str:
    """How each method's headlines differ from the first method's, subject by subject; an interval without 0 in bold."""
    rows = [["method", *metrics], ["---", *("---:" for _ in metrics)]]
    for method, found in summary["differences"].items():
        cells = [_cell(found[name], metric, clear=True) for name, metric in metrics.items()]
        rows.append([method, *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _column(methods: Mapping[str, Any], name: str, metric: Metric) -> dict[str, str]:
    entries = {method: scores[name].get(metric.headline) for method, scores in methods.items()}
    means = {method: entry["mean"] for method, entry in entries.items() if entry and entry["mean"] is not None}
    best = (max if metric.higher_is_better else min)(means.values()) if means and metric.higher_is_better is not None else None
    cells = {}
    for method, entry in entries.items():
        text = _cell(entry, metric)
        text = f"**{text}**" if best is not None and means.get(method) == best else text
        cells[method] = f"{text} ({entry['missing']} undefined)" if entry and entry["missing"] else text
    return cells


def _cell(entry: Mapping[str, Any] | None, metric: Metric, *, clear: bool = False) -> str:
    if not entry or entry["mean"] is None:
        return "-"
    scale, digits, sign = (100, 1, "+" if clear else "") if metric.percent else (1, 3, "+" if clear else "")
    text = f"{scale * entry['mean']:{sign}.{digits}f}"
    if entry["low"] is None:
        return text
    text += f" ± {scale * (entry['high'] - entry['low']) / 2:.{digits}f}"
    return f"**{text}**" if clear and (entry["low"] > 0 or entry["high"] < 0) else text


def timing_table(seconds: Mapping[str, float]) -> str:
    """Seconds for a map, of each method."""
    return "| method | seconds per map |\n| --- | ---: |\n" + "".join(f"| {method} | {each:.3g} |\n" for method, each in seconds.items())
