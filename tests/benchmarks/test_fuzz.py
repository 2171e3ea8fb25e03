"""Broken files end in a clear error or a right answer: a few of the cases of `benchmarks/fuzz.py`."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import fuzz
from fuzz_cases import Case, Kind, Wrong, outcome
from fuzz_kinds import kinds


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("photographs", 60),
        ("tables", 60),
        ("archives", 60),
        pytest.param("safetensors", 60, marks=pytest.mark.slow),
        pytest.param("config", 60, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("default")  # a warning of Pillow's is none of ours, and no error outside the tests
def test_every_outcome_is_an_error_or_an_answer(name, count, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "case").mkdir()
    kind = kinds([name], tmp_path / "models")[name]
    found: dict[str, int] = {}

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(kind.cases)
    def each(case):
        result = outcome(kind, tmp_path / "case", case)
        assert not result.startswith("WRONG"), (case.seed, result)
        found[result] = found.get(result, 0) + 1

    each()
    assert found["right"] > 3 and found["ValueError"] > 3


def raising(error):
    def check(folder, case):
        raise error

    return Kind(None, check)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("'a.png' is broken"), "ValueError"),
        (FileNotFoundError("no a.png"), "FileNotFoundError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "in a.png"), "ValueError"),
        (ValueError("broken"), "WRONG: names no file: ValueError: broken"),
        (KeyError("a.png"), "WRONG: KeyError: 'a.png'"),
        (Wrong("garbage"), "WRONG: garbage"),
    ],
)
def test_outcomes_are_told_apart(error, expected, tmp_path):
    assert outcome(raising(error), tmp_path, Case({"a.png": b""})) == expected


@pytest.mark.slow
def test_the_script_counts_what_its_processes_report(tmp_path, capsys):
    result = fuzz.main(["--kinds", "tables", "--cases", "30", f"--output={tmp_path}", f"--wrong={tmp_path / 'wrong'}"])
    (written,) = tmp_path.glob("fuzz_*.json")
    assert json.loads(written.read_text()) == result
    row = result["kinds"]["tables"]
    assert row["cases"] == sum(row["outcomes"].values()) == 30 and set(row["outcomes"]) <= {"right", "ValueError", "FileNotFoundError"}
    assert row["slowest_seconds"] > 0 and not row["problems"] and "| tables | 30 |" in capsys.readouterr().out


CHILD = """
import os, sys, time
print('{"outcome": "right", "seconds": 0.1, "seed": "a"}', flush=True)
os.abort() if "--seed" in sys.argv and sys.argv[sys.argv.index("--seed") + 1] == "1" else time.sleep(600)
"""


@pytest.mark.slow
def test_a_crash_and_a_hang_are_counted(tmp_path, monkeypatch):
    (tmp_path / "child.py").write_text(CHILD)
    monkeypatch.setattr(fuzz, "__file__", str(tmp_path / "child.py"))
    found = fuzz.run("tables", 4, 0, 0.5, 2**30, tmp_path / "wrong")
    assert found["outcomes"] == {"right": 2, "crash": 1, "hang": 1}
