"""What a study's answers say: strengths of the methods with intervals, and whether the participants can be trusted."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dave_jax.pages.answers import Answer, read_answers, read_key
from dave_jax.pages.bradley_terry import has_maximum, log_strengths, resampled_strengths


def analyse(
    answers: Sequence[Path], *, key: Path | None = None, seed: int = 0, attentive: bool = False, resamples: int = 2000
) -> dict[str, Any]:
    """Fit Bradley-Terry strengths to the answers of a study.

    First answers count (`trial`); repeats measure consistency, checks attention. Intervals are the 95 % percentiles of a bootstrap over
    participants, and over comparisons where there is only one participant.

    Args:
        answers: CSV files.
        key: of the study; default the `*.key.json` in the working folder that fits.
        seed: of the bootstrap.
        attentive: whether to leave out participants who failed a check.
        resamples: of the bootstrap.

    Returns:
        `methods`, from the strongest: `strength` (a logarithm; the mean over methods is 0), `low`, `high`, `chosen` and `of`; `pairs`:
        how often `first` was preferred to `second`, and the model's probability of it, with its interval; `consistency` and `left` with
        Wilson intervals; `participants`; `notes`.

    Raises:
        FileNotFoundError, ValueError: no answers, no key, answers to another study, or files that were changed.
    """
    found = read_key(key, answers)
    given = read_answers(answers, found)
    groups = {name: list(group) for name, group in itertools.groupby(given, lambda answer: answer.participant)}
    people = {name: _person(group) for name, group in groups.items()}
    failed = [name for name, person in people.items() if person["checks_passed"] < person["checks"]]
    kept = {name: group for name, group in groups.items() if not (attentive and name in failed)}
    methods, owners = list(found["methods"]), {picture: entry["method"] for picture, entry in found["pictures"].items()}
    units = [_wins(group, methods, owners) for group in kept.values()]
    over = "participants"
    if len(units) == 1:
        over = "comparisons"
        units = [_wins([answer], methods, owners) for group in kept.values() for answer in group if answer.kind == "trial"]
    table = np.array(units).reshape(-1, len(methods), len(methods))
    if not table.sum():
        raise ValueError("There is no answer to a comparison" + (" by a participant who passed all checks." if failed else "."))
    total = table.sum(axis=0)
    strengths = log_strengths(total)
    draws, regularised = resampled_strengths(table, seed, resamples)
    everyone = [answer for group in kept.values() for answer in group]
    size = len(found["trials"]) + found["repeats"] + found["checks"]
    return {
        "study": found["study"],
        "question": found["question"],
        "bootstrap": {"over": over, "units": len(table), "resamples": resamples, "seed": seed, "regularised": regularised},
        "methods": _methods(methods, total, strengths, draws),
        "pairs": _pairs(methods, total, strengths, draws),
        "consistency": _share(*_consistency(everyone)),
        "left": _share(sum(answer.chosen == "left" for answer in everyone if answer.kind != "check"), _compared(everyone)),
        "participants": people,
        "notes": _on_intervals(over, len(table), regularised)
        + _on_separation(total, methods)
        + _on_people(people, failed, attentive, size),
    }


def as_markdown(found: Mapping[str, Any]) -> str:
    """The results as tables."""
    methods = ["| method | strength | 95 % interval | preferred to an average one | chosen |", "| --- | --- | --- | --- | --- |"]
    for row in found["methods"]:
        chance = 1 / (1 + np.exp(-row["strength"]))
        interval = f"{row['low']:+.2f} to {row['high']:+.2f}"
        methods.append(f"| {_cell(row['method'])} | {row['strength']:+.2f} | {interval} | {chance:.0%} | {row['chosen']} of {row['of']} |")
    pairs = ["| pair | observed | by the model | 95 % interval |", "| --- | --- | --- | --- |"]
    for row in found["pairs"]:
        observed = f"{row['wins']} of {row['of']}" if row["of"] else "–"
        names = f"{_cell(row['first'])} before {_cell(row['second'])}"
        pairs.append(f"| {names} | {observed} | {row['probability']:.0%} | {row['low']:.0%} to {row['high']:.0%} |")
    people = ["| participant | tasks | same choice when repeated | left | checks passed | median seconds |", "| --- " * 6 + "|"]
    for name, row in found["participants"].items():
        counts = (
            f"{row['repeats_same']} of {row['repeats']} | {row['left']} of {row['compared']} | {row['checks_passed']} of {row['checks']}"
        )
        people.append(f"| {_cell(name)} | {row['tasks']} | {counts} | {row['median_seconds']:.1f} |")
    shares = [
        f"- {name}: {_as_text(found[place])}" for name, place in (("Same choice when repeated", "consistency"), ("Left chosen", "left"))
    ]
    notes = [f"- {note}" for note in found["notes"]]
    parts = [[f"# Study {found['study']}", "", found["question"]], methods, pairs, shares, people, notes]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _wins(answers: Sequence[Answer], methods: Sequence[str], owners: Mapping[str, str]) -> np.ndarray:
    wins = np.zeros((len(methods), len(methods)))
    for answer in answers:
        if answer.kind == "trial":
            wins[methods.index(owners[answer.picture]), methods.index(owners[answer.other])] += 1
    return wins


def _compared(answers: Sequence[Answer]) -> int:
    return sum(answer.kind != "check" for answer in answers)


def _consistency(answers: Sequence[Answer]) -> tuple[int, int]:
    """How many repeats got the same map as the first time, and how many there were."""
    first = {(answer.participant, answer.trial): answer.picture for answer in answers if answer.kind == "trial"}
    pairs = [(first.get((answer.participant, answer.trial)), answer.picture) for answer in answers if answer.kind == "repeat"]
    return sum(one == other for one, other in pairs), len(pairs)


def _person(answers: Sequence[Answer]) -> dict[str, Any]:
    checks = [answer for answer in answers if answer.kind == "check"]
    same, repeats = _consistency(answers)
    return {
        "tasks": len(answers),
        "compared": _compared(answers),
        "left": sum(answer.chosen == "left" for answer in answers if answer.kind != "check"),
        "repeats": repeats,
        "repeats_same": same,
        "checks": len(checks),
        "checks_passed": sum(answer.chosen == answer.asked for answer in checks),
        "median_seconds": float(np.median([answer.milliseconds for answer in answers])) / 1000,
    }


def _methods(names: Sequence[str], wins: np.ndarray, strengths: np.ndarray, draws: np.ndarray) -> list[dict[str, Any]]:
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    rows = [
        {
            "method": name,
            "strength": float(strengths[i]),
            "low": float(low[i]),
            "high": float(high[i]),
            "chosen": int(wins[i].sum()),
            "of": int(wins[i].sum() + wins[:, i].sum()),
        }
        for i, name in enumerate(names)
    ]
    return sorted(rows, key=lambda row: -row["strength"])


def _pairs(names: Sequence[str], wins: np.ndarray, strengths: np.ndarray, draws: np.ndarray) -> list[dict[str, Any]]:
    order = np.argsort(-strengths, kind="stable").tolist()
    rows = []
    for i, j in itertools.combinations(order, 2):
        chances = 1 / (1 + np.exp(draws[:, j] - draws[:, i]))
        low, high = np.percentile(chances, [2.5, 97.5])
        chance = 1 / (1 + np.exp(strengths[j] - strengths[i]))
        counts = {"wins": int(wins[i, j]), "of": int(wins[i, j] + wins[j, i])}
        rows.append(
            {"first": names[i], "second": names[j]} | counts | {"probability": float(chance), "low": float(low), "high": float(high)}
        )
    return rows


def _share(count: int, total: int) -> dict[str, Any]:
    """A part, with Wilson's interval."""
    from scipy.stats import binomtest  # takes half a second to import

    if not total:
        return {"count": 0, "of": 0, "share": None, "low": None, "high": None}
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return {"count": count, "of": total, "share": count / total, "low": float(interval.low), "high": float(interval.high)}


def _as_text(share: Mapping[str, Any]) -> str:
    if not share["of"]:
        return "nothing to measure it by"
    return f"{share['share']:.0%} ({share['count']} of {share['of']}; 95 % interval {share['low']:.0%} to {share['high']:.0%})"


def _on_intervals(over: str, units: int, regularised: float) -> list[str]:
    notes = [f"Intervals: 95 %, bootstrap over {over}."]
    if over == "comparisons":
        notes.append("One participant: the intervals say nothing about other people.")
    elif units < 10:
        notes.append(f"With {units} participants the intervals are rough, and rather too narrow.")
    return [*notes, f"Half a win each way was added to every pair in {regularised:.1%} of its draws."] if regularised else notes


def _on_separation(wins: np.ndarray, methods: Sequence[str]) -> list[str]:
    if has_maximum(wins):
        return []
    extreme = [name for name, won, lost in zip(methods, wins.sum(1), wins.sum(0), strict=True) if not (won and lost)]
    named = f" ({', '.join(extreme)})" if extreme else ""
    return [
        f"Some methods were always or never preferred to the others{named}, so the likelihood has no maximum: half a win each way was "
        "added to every pair. The strengths are then a convention; the order and the counts are what was observed."
    ]


def _on_people(people: Mapping[str, Mapping[str, Any]], failed: Sequence[str], attentive: bool, size: int) -> list[str]:
    notes = []
    if failed:
        treated = "left out" if attentive else "counted all the same (--attentive leaves them out)"
        notes.append(f"Failed a check: {', '.join(failed)}; {treated}.")
    short = [name for name, person in people.items() if person["tasks"] < size]
    return [*notes, f"Answered fewer than the study's {size} tasks: {', '.join(short)}."] if short else notes


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
