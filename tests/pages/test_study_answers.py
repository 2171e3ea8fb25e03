"""What answers come to: strengths that were put in, consistency, sides, checks; and files that are none."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_up import make_photos, make_store, write_answers

from dave_jax.cli import main
from dave_jax.pages.study import write_study
from dave_jax.pages.study_analysis import analyse, as_markdown

STRENGTHS = {"good": 1.0, "fair": 0.0, "poor|": -1.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    photos = make_photos(folder / "photos", 10)
    stores = [make_store(folder / f"{name}.zarr", photos, seed=seed) for seed, name in enumerate(STRENGTHS)]
    write_study(stores, folder / "study", trials=60, repeats=1 / 3)
    write_study(stores, folder / "other", trials=60, seed=1)
    return folder


@pytest.fixture(scope="module")
def key(place):
    return json.loads((place / "study.key.json").read_text())


def person(seed: int):
    """Prefers by the strengths, at random."""
    draw = np.random.default_rng(seed)
    return lambda left, right: draw.random() < 1 / (1 + np.exp(STRENGTHS[right] - STRENGTHS[left]))


def rank(name: str) -> int:
    return list(STRENGTHS).index(name)


def test_strengths_are_found(place, key, tmp_path):
    files = [write_answers(tmp_path / f"{i}.csv", key, f"p{i}", person(i), seed=i) for i in range(20)]
    found = analyse(files, key=place / "study.key.json")
    assert [row["method"] for row in found["methods"]] == list(STRENGTHS)
    for row in found["methods"]:
        assert row["low"] < row["strength"] < row["high"] and row["high"] - row["low"] < 0.6
        assert abs(row["strength"] - STRENGTHS[row["method"]]) < 0.3 and row["of"] == 20 * 40
    assert sum(row["wins"] for row in found["pairs"]) < sum(row["of"] for row in found["pairs"]) == 20 * 60  # repeats do not count twice
    assert found["consistency"]["of"] == 400 and found["left"]["of"] == 1600 and found["left"]["low"] < 0.5 < found["left"]["high"]
    assert found["bootstrap"] == {"over": "participants", "units": 20, "resamples": 2000, "seed": 0, "regularised": 0.0}
    assert found == analyse(files[::-1], key=place / "study.key.json")
    assert analyse(files, key=place / "study.key.json", seed=1)["methods"] != found["methods"]
    json.dumps(found, allow_nan=False)
    text = as_markdown(found)
    assert "| poor\\| | -1." in text and "| p19 | 82 |" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {5, 6, 7}


def test_the_consistent_the_biased_and_the_careless(place, key, tmp_path):
    files = [
        write_answers(tmp_path / "a.csv", key, "steady", lambda left, right: rank(left) < rank(right)),
        write_answers(tmp_path / "b.csv", key, "leftist", lambda left, right: True, seed=1),
        write_answers(tmp_path / "c.csv", key, "careless", person(2), lazy=True, seed=2),
    ]
    found = analyse(files, key=place / "study.key.json")
    people = found["participants"]
    assert (people["steady"]["repeats_same"], people["steady"]["repeats"], people["steady"]["checks_passed"]) == (20, 20, 2)
    assert people["leftist"]["repeats_same"] == 0 and people["leftist"]["left"] == people["leftist"]["compared"] == 80
    assert people["careless"]["checks_passed"] == 0 and found["left"]["low"] > 0.5
    assert any("Failed a check: careless; counted all the same" in note for note in found["notes"])
    assert any("With 3 participants" in note for note in found["notes"])
    kept = analyse(files, key=place / "study.key.json", attentive=True)
    assert kept["consistency"]["of"] == 40 and kept["bootstrap"]["units"] == 2 and "left out" in " ".join(kept["notes"])


def test_one_participant_and_methods_that_never_lose(place, key, tmp_path):
    found = analyse(
        [write_answers(tmp_path / "a.csv", key, "one", lambda left, right: rank(left) < rank(right))], key=place / "study.key.json"
    )
    assert found["bootstrap"]["over"] == "comparisons" and found["bootstrap"]["units"] == 60 and found["bootstrap"]["regularised"] == 1
    notes = " ".join(found["notes"])
    assert (
        "always or never preferred to the others (good, poor|)" in notes and "half a win each way" in notes and "One participant" in notes
    )
    assert [row["method"] for row in found["methods"]] == list(STRENGTHS) and all(np.isfinite(row["high"]) for row in found["methods"])


def test_files_of_the_same_answers_count_once(place, key, tmp_path):
    whole = write_answers(tmp_path / "whole.csv", key, "p", person(0))
    early = tmp_path / "early.csv"
    early.write_text("".join(whole.read_text().splitlines(keepends=True)[:11]))
    assert analyse([early, whole], key=place / "study.key.json") == analyse([whole], key=place / "study.key.json")
    assert "fewer than the study's 82 tasks: p" in " ".join(analyse([early], key=place / "study.key.json")["notes"])
    namesake = write_answers(tmp_path / "namesake.csv", key, "p", person(1))
    with pytest.raises(ValueError, match=r"participant 'p' answered task \d+ otherwise"):
        analyse([whole, namesake], key=place / "study.key.json")


def test_what_is_no_answer_is_refused(place, key, tmp_path):
    good = write_answers(tmp_path / "good.csv", key, "p", person(0))
    other = write_answers(tmp_path / "other.csv", json.loads((place / "other.key.json").read_text()), "q", person(0))

    def refused(text: str, message: str):
        path = tmp_path / "bad.csv"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            analyse([path], key=place / "study.key.json")

    with pytest.raises(ValueError, match=r"other\.csv, line 2: an answer to study .*the key is that of"):
        analyse([good, other], key=place / "study.key.json")
    with pytest.raises(FileNotFoundError, match=r"There is no file .*missing\.csv"):
        analyse([tmp_path / "missing.csv"], key=place / "study.key.json")
    with pytest.raises(FileNotFoundError, match="There is no key"):
        analyse([good], key=place / "none.json")
    with pytest.raises(ValueError, match="is no key of a study"):
        analyse([good], key=good)
    head, first, *rest = good.read_text().splitlines()
    cells = first.split(",")
    refused(f"{head}\n", "no answers")
    refused("a,b\n1,2\n", "lacks the columns study")
    refused(f"{head}\n{','.join(cells[:-2])}\n", "not an answer")
    for place_of, value in ((5, "99"), (5, "-1"), (6, "9999"), (9, "middle"), (10, "9999"), (8, "left"), (4, "guess"), (11, "fast")):
        refused("\n".join([head, ",".join([*cells[:place_of], value, *cells[place_of + 1 :]]), *rest]), "line 2: ")
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is no CSV file"):
        analyse([tmp_path / "bad.csv"], key=place / "study.key.json")


def test_the_commands(place, key, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(place)
    answers = str(write_answers(tmp_path / "a.csv", key, "p", person(0)))
    assert main(["study", "--analyse", answers, "-o", "results"]) == 0
    printed = capsys.readouterr().out
    assert printed == Path("results/results.md").read_text() and "| good | +" in printed
    assert main(["study", "--analyse", answers, "--key", "study.key.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("results/results.json").read_text())
    assert main(["report", "good.zarr", "-o", "page"]) == 0 and "10 of 10 photographs" in capsys.readouterr().out
    assert main(["report", "good.zarr", "-o", "page", "--json"]) == 0 and json.loads(capsys.readouterr().out)["explained"] == 10
    assert main(["study", "good.zarr", "fair.zarr", "-o", "new", "--trials", "3", "--checks", "0"]) == 0
    assert capsys.readouterr().out.endswith("wrote new/index.html, and for you new.key.json\n")
    for wrong, message in (
        (["study", "good.zarr", "-o", "x"], "two or more stores"),
        (["study", "good.zarr", "fair.zarr"], "-o for its folder"),
        (["study", "good.zarr", "--analyse", answers], "leave out the stores"),
        (["study", "--analyse", "none.csv"], "There is no file 'none.csv'"),
        (["report", "good.zarr"], "required: -o"),
        (["report", "none.zarr", "-o", "x"], "no store of maps"),
    ):
        assert main(wrong) == 2 and message in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["study", "--analyse", answers]) == 2 and "Name it with --key" in capsys.readouterr().err
