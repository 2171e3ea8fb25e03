"""The summary of a run, and its tables, on scores for which they are known by hand."""

import dataclasses
import json

import numpy as np
import pytest

from dave_jax.evaluation.log import append_line, difference, plain, read_lines, write_document
from dave_jax.evaluation.metric import Metric
from dave_jax.evaluation.summary import seconds_per_map, summarise
from dave_jax.evaluation.table import differences, table, timing_table


@dataclasses.dataclass(frozen=True)
class Share(Metric):
    """A share, for some subjects only."""

    needs, headline, percent = "region", "share", True

    def score(self, case):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Fall(Share):
    """A curve, and a number that is better when it is low."""

    headline, percent, higher_is_better, curves = "area", False, False, ("curve",)


METRICS = {"share": Share(), "fall": Fall()}
NUMBERS = np.random.default_rng(0).uniform(0.2, 0.4, 40)


@pytest.fixture
def folder(tmp_path):
    """Two methods on 40 subjects: the second has 0.1 more of everything, and no share of three of them."""
    for method, more in (("first", 0.0), ("second", 0.1)):
        for i, number in enumerate(NUMBERS):
            fall = {"area": number + more, "curve": [1.0, number + more]}
            share = None if more and i < 3 else [number + more, number + more + 0.2]
            line = {"method": method, "subject": str(i), "scores": {"share": {"share": share}, "fall": fall} if i % 2 else {"fall": fall}}
            append_line(tmp_path / "scores.jsonl", line)
            append_line(tmp_path / "timing.jsonl", {"method": method, "subject": str(i), "maps": 1 + 3 * (i > 30), "seconds": more + 1})
    return tmp_path


def test_means_intervals_and_differences(folder):
    summary = summarise(folder, METRICS, 0)
    first, second = (summary["methods"][name] for name in ("first", "second"))
    share = first["share"]["share"]
    assert share["count"] == 20 and share["missing"] == 0 and share["mean"] == pytest.approx(NUMBERS[1::2].mean() + 0.1)
    assert second["share"]["share"]["count"] == 19 and second["share"]["share"]["missing"] == 2
    assert share["low"] < share["mean"] < share["high"]
    width = 2 * 1.96 * NUMBERS.std() / np.sqrt(len(NUMBERS))
    assert first["fall"]["area"]["high"] - first["fall"]["area"]["low"] == pytest.approx(width, rel=0.1)  # 2000 resamples
    np.testing.assert_allclose(second["fall"]["curve"], [1.0, NUMBERS.mean() + 0.1], rtol=1e-6)  # seven digits
    assert summary["reference"] == "first" and set(summary["differences"]) == {"second"}
    change = summary["differences"]["second"]["fall"]
    assert (
        change["mean"] == pytest.approx(0.1) and change["high"] - change["low"] < 1e-6
    )  # paired: subjects differ, the difference does not
    assert summarise(folder, METRICS, 0) == summary


def test_a_row_of_scores_counts_as_one_subject(folder):
    """Its values are drawn together: two equal values for each subject say no more than one."""
    append_line(folder / "pairs.jsonl", {})
    twice = folder / "twice"
    twice.mkdir()
    for i, number in enumerate(NUMBERS):
        append_line(
            twice / "scores.jsonl", {"method": "m", "subject": str(i), "scores": {"share": {"share": [number, number], "one": number}}}
        )
    found = summarise(twice, {"share": Share()}, 0)["methods"]["m"]["share"]
    assert found["share"] == found["one"]


def test_tables(folder):
    summary = summarise(folder, METRICS, 0)
    head, rule, first, second = table(summary, METRICS).splitlines()
    assert head == "| method | share, % ↑ | fall ↓ |" and rule == "| --- | ---: | ---: |"
    mean, low, high = (100 * summary["methods"]["second"]["share"]["share"][name] for name in ("mean", "low", "high"))
    assert second.startswith(f"| second | **{mean:.1f} ± {(high - low) / 2:.1f}** (2 undefined) | {NUMBERS.mean() + 0.1:.3f} ± ")
    assert first.startswith("| first | ") and f"| **{NUMBERS.mean():.3f} ± " in first and "undefined" not in first
    assert differences(summary, METRICS).splitlines()[2] == "| second | **+10.0 ± 0.0** | **+0.100 ± 0.000** |"
    assert timing_table(seconds_per_map(folder)).splitlines()[2:] == ["| first | 1 |", "| second | 1.1 |"]  # of photographs, not of mosaics


def test_a_metric_without_scores_is_a_dash(tmp_path):
    append_line(tmp_path / "scores.jsonl", {"method": "m", "subject": "a", "scores": {"share": {"share": None}}})
    append_line(tmp_path / "scores.jsonl", {"method": "n", "subject": "a", "scores": {"share": {"share": 0.5}}})
    summary = summarise(tmp_path, METRICS, 0)
    assert table(summary, METRICS).splitlines()[2:] == ["| m | - (1 undefined) | - |", "| n | **50.0** | - |"]
    assert differences(summary, METRICS).splitlines()[2] == "| n | - | - |"


def test_half_written_lines_are_cut_off(tmp_path):
    path = tmp_path / "lines.jsonl"
    rows = [{"name": "é", "value": i} for i in range(3)]
    for row in rows:
        append_line(path, row)
    whole = path.read_bytes()
    assert read_lines(path) == rows and path.read_bytes() == whole
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        assert read_lines(path) == rows[:kept]
        assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:kept])
    path.write_bytes(whole[:-1] + b"\0\0\n")
    assert read_lines(path) == rows[:2]
    assert read_lines(tmp_path / "absent.jsonl") == []


def test_a_document_is_replaced_at_once(tmp_path):
    path = tmp_path / "new" / "document.json"
    write_document(path, {"a": 1})
    with pytest.raises(TypeError):
        write_document(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1} and [file.name for file in path.parent.iterdir()] == ["document.json"]


def test_plain_numbers():
    values = {"a": np.float32(1 / 3), "b": [np.nan, np.inf, 1e-9], "c": np.int64(3), "d": np.array([[1.0]]), "e": None, "f": "x", "g": True}
    assert plain(values) == {"a": 0.3333333, "b": [None, None, 1e-9], "c": 3, "d": [[1.0]], "e": None, "f": "x", "g": True}


def test_differences_of_documents():
    old, new = {"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"b": 2, "c": [1, 2]}, "e": 1}
    assert difference(old, new) == ["a.b: 1 -> 2", "d: 1 -> null", "e: null -> 1"]
