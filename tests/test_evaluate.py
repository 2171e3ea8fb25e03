"""`dave-jax evaluate`: from a folder of photographs to tables and a page; and the registries behind it."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from labelled import CLASSES, make
from PIL import Image

import dave_jax as dave
from dave_jax.attribution.methods import methods, samples, select
from dave_jax.cli import main
from dave_jax.effective.decomposition import presets
from dave_jax.evaluation.metrics import metrics, select_metrics
from dave_jax.evaluation.perturbation import dave_paper as authors_deletion
from dave_jax.evaluation.protocol import protocols
from dave_jax.models.preprocess import load_photo


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A stored model, a table of photographs, and the same as class folders without boxes."""
    folder = tmp_path_factory.mktemp("place")
    model = make(folder / "photos")
    dave.save(model, folder / "model")
    for entry in json.loads((folder / "photos" / "labels.json").read_text()):
        path = folder / "folders" / entry["label"] / entry["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((folder / "photos" / entry["file"]).read_bytes())
    return folder


@pytest.fixture
def evaluate(place, monkeypatch):
    """Runs the command in that place."""
    monkeypatch.chdir(place)

    def run(*arguments: str) -> int:
        return main(["evaluate", *arguments, "--model", "model"])

    return run


FEW = ["--methods", "input_x_gradient,edge", "--min-confidence", "0", "--max-images", "2", "--mosaics", "1"]


@pytest.mark.slow
def test_the_command_writes_what_its_page_shows(evaluate, place, capsys):
    assert evaluate("photos", *FEW, "--metrics", "gridpg,energypg,deletion", "-o", "results") == 0
    printed = capsys.readouterr()
    results = place / "results"
    assert (
        printed.err == ""
        and printed.out.startswith((results / "table.md").read_text())
        and printed.out.endswith("wrote results/index.html\n")
    )
    written = {path.name for path in results.iterdir()}
    assert written == {
        *("run.json", "choice.json", "scores.jsonl", "timing.jsonl", "maps"),
        *("summary.json", "table.md", "differences.md", "timing.md", "deletion.png", "maps.png", "index.html"),
    }
    page = (results / "index.html").read_text()
    assert "://" not in page and set(re.findall(r'src="([^"]+)"', page)) == {"deletion.png", "maps.png"}
    cells = re.findall(r"<t[dh]>(.*?)</t[dh]>", page)
    for line in (results / "table.md").read_text().splitlines()[2:]:
        for cell in line.strip("| ").split(" | "):
            assert cell.replace("**", "") in [re.sub("</?b>", "", shown) for shown in cells]
    panels = load_photo(results / "maps.png")
    assert panels.width > 3 * 200 and panels.height > 3 * 200  # two photographs and a mosaic; photographs and two methods
    summary = json.loads((results / "summary.json").read_text())
    assert list(summary["methods"]) == ["input_x_gradient", "edge"] and summary["reference"] == "input_x_gradient"
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert evaluate("photos", *FEW, "--metrics", "gridpg,energypg,deletion", "-o", "results", "--json") == 0  # nothing left to do
    document = json.loads(capsys.readouterr().out)
    assert document["methods"] == summary["methods"] and set(document["seconds_per_map"]) == {"input_x_gradient", "edge"}
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before
    assert evaluate("photos", *FEW, "--metrics", "gridpg,energypg,deletion", "-o", "results", "--seed", "1") == 2
    assert "settings.seed: 0 -> 1" in capsys.readouterr().err


def test_class_folders_and_settings(evaluate, place, capsys):
    arguments = ["--methods", "dave,random", "--metrics", "deletion", "--samples", "3", "--noise-alpha", "0.25", "--max-images", "1"]
    assert evaluate("folders", *arguments, "--min-confidence", "0", "-o", "folders-results") == 0
    run = json.loads((place / "folders-results" / "run.json").read_text())
    assert run["methods"]["dave"]["num_samples"] == 3 and run["model"]["config"]["noise_alpha"] == 0.25
    assert run["settings"]["max_images"] == 1 and run["data"]["photographs"] == 40
    assert "| dave | " in capsys.readouterr().out


BAD = [
    ([], "required: DATA"),
    (["photos"], "required: -o"),
    (["absent", "-o", "new"], "There is no data 'absent'"),
    (["photos", "-o", "new", "--methods", "dave,atn_lrp"], "No method is called 'atn_lrp'. Near names: attn_lrp"),
    (["photos", "-o", "new", "--methods", "dave,dave"], "Each method is named once"),
    (["photos", "-o", "new", "--metrics", "gridgp"], "No metric is called 'gridgp'. Near names: gridpg"),
    (["photos", "-o", "new", "--protocol", "dave_paper"], "Near names: dave-paper"),
    (["photos", "-o", "new", "--mosaics", "0"], "num_mosaics must be at least 1; got 0"),
    (["photos", "-o", "new", "--samples", "0"], "num_samples must be"),
    (["photos", "-o", "new", "--min-confidence", "2"], "min_confidence is a probability; got 2"),
    (["photos", "-o", "new", "--min-confidence", "1", "--metrics", "deletion"], "No photograph of 40 is classified rightly"),
    (["photos", "-o", "photos"], "holds something else than a run"),
    (["photos", "-o", "photos/0.png"], "is a file"),
    (["folders", "-o", "new", "--metrics", "energypg"], "energypg needs boxes or masks, and none of the 40 photographs has any"),
    (["two", "-o", "new", "--metrics", "gridpg", "--min-confidence", "0"], "Mosaics of 2 x 2 need images of 4 classes"),
    (["foreign", "-o", "new"], "class folder 'ostrich' is none of the model's classes"),
    (["outside.json", "-o", "new"], "A box must lie inside its photograph, 0 to 20 across and 0 to 18 down; got (0.0, 0.0, 21.0, 18.0)"),
    (["mask.json", "-o", "new"], "a mask must have the shape of its photograph"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_before_any_work(arguments, message, evaluate, place, capsys):
    for name, labels in (("two", CLASSES[:2]), ("foreign", ("ostrich",))):
        for label in labels:
            (place / name / label).mkdir(parents=True, exist_ok=True)
            photo = next((place / "folders" / label).iterdir()) if label in CLASSES else place / "photos" / "0.png"
            (place / name / label / "a.png").write_bytes(photo.read_bytes())
    Image.fromarray(np.ones((9, 9), np.uint8)).save(place / "mask.png")
    entry = {"file": "photos/0.png", "label": "ant"}
    (place / "outside.json").write_text(json.dumps([entry | {"boxes": [[0, 0, 21, 18]]}]))
    (place / "mask.json").write_text(json.dumps([entry | {"mask": "mask.png"}]))
    before = sorted(place.rglob("*"))
    assert evaluate(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("dave-jax: error: ") and printed.err.count("\n") == 1 and message in printed.err
    assert sorted(place.rglob("*")) == before


def test_every_method_has_a_name_and_takes_its_samples():
    for name in presets:
        assert (name == "gradient" or methods[name].decomposition == name) and (
            name == "effective" or methods[f"dave_{name}"].decomposition == name
        )
    assert list(select(["all"])) == list(methods)
    chosen = select(["dave", "smoothgrad", "attn_lrp"], num_samples=7)
    assert [getattr(method, "num_samples", None) for method in chosen.values()] == [7, 7, None]
    assert [samples(method) for method in chosen.values()] == [True, True, False]
    assert select(["dave"])["dave"] == methods["dave"]


def test_every_metric_says_what_it_is():
    assert list(select_metrics(["all"])) == list(metrics)
    for name, metric in metrics.items():
        assert metric.needs in ("photograph", "region", "mosaic") and dataclasses.is_dataclass(metric), name


def test_the_papers_protocol_is_what_it_states():
    paper = protocols["dave-paper"]
    assert (paper.num_samples, paper.settings.num_mosaics, paper.settings.rows, paper.settings.min_confidence) == (50, 500, 2, 0.9)
    assert paper.metrics["deletion"].protocol == authors_deletion and set(paper.metrics) == {"gridpg", "energypg", "deletion"}
    assert set(paper.methods) <= set(methods) and all(
        name in Path(dave.__file__).parents[1].joinpath("docs/evaluation.md").read_text() for name in paper.methods
    )
