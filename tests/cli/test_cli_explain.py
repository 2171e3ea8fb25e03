"""`dave-jax explain`: its files, printed text and JSON, with a tiny model."""

import dataclasses
import io
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from command_line import NAMES

import dave_jax as dave
from dave_jax.attribution.baselines.smoothgrad import SmoothGrad
from dave_jax.cli import main
from dave_jax.models.preprocess import load_photo
from dave_jax.plot import overlay
from dave_jax.results import output_paths


def softmax(logits) -> np.ndarray:
    return np.asarray(jax.nn.softmax(logits))


def test_explain_writes_what_explain_returns(tiny, folder, capsys):
    assert main(["explain", "cat.png", "grey.png", "-o", "out/maps", "--target", "top-2", "--target", "church", "--seed", "3"]) == 0
    assert sorted(path.name for path in Path("out/maps").iterdir()) == [
        f"{stem}{suffix}" for stem in ("cat", "grey") for suffix in (".npz", ".overlay.png", ".panel.png")
    ]
    for stem in ("cat", "grey"):
        images = tiny.preprocess(f"{stem}.png")
        logits = np.asarray(tiny.logits(images))[0]
        targets = list(dict.fromkeys([*np.argsort(-logits)[:2].tolist(), 1]))
        saved = np.load(f"out/maps/{stem}.npz")
        assert saved["target"].tolist() == targets and saved["target_name"].tolist() == [NAMES[i] for i in targets]
        np.testing.assert_allclose(saved["probability"], softmax(logits)[targets], rtol=1e-5)  # float32 softmax
        maps = np.asarray(dave.explain(tiny, images, np.array([targets]), key=jax.random.key(3)))[0]
        np.testing.assert_array_equal(saved["map"], maps)
        pixels = tiny.preprocessing.denormalise(images)[0]
        np.testing.assert_array_equal(saved["pixels"], np.round(255 * pixels))
        np.testing.assert_array_equal(load_photo(f"out/maps/{stem}.overlay.png"), overlay(pixels, maps[0]))
        assert load_photo(f"out/maps/{stem}.panel.png").width > (1 + len(targets)) * 200
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.startswith("cat.png\n") and "grey.png\n" in printed.out
    assert f"{softmax(tiny.logits(tiny.preprocess('cat.png')))[0, 1]:.1%}  church (1)  <- explained" in printed.out


@pytest.mark.slow
def test_provenance_tells_all_that_a_map_depends_on(tiny, folder):
    options = ["--samples", "3", "--chunk", "2", "--noise-alpha", "0.25", "--seed", "7", "--method", "dave_gradient"]
    assert main(["explain", "cat.png", *options]) == 0
    saved = np.load("cat.npz")
    provenance = json.loads(str(saved["provenance"]))
    assert {name: provenance[name] for name in ("model", "source", "seed", "method", "decomposition", "image_size", "photo")} == {
        "model": "tiny",
        "source": "made up",
        "seed": 7,
        "method": "dave_gradient",
        "decomposition": "gradient",
        "image_size": [16, 16],
        "photo": "cat.png",
    }
    assert provenance["dave_jax"] and len(provenance["photo_sha256"]) == 64
    config = dave.DaveConfig(**provenance["config"])
    assert config == dataclasses.replace(tiny.config, num_samples=3, chunk_size=2, noise_alpha=0.25)
    again = dave.explain(
        tiny, tiny.preprocess("cat.png"), saved["target"][None], key=jax.random.key(7), config=config, decomposition="gradient"
    )
    np.testing.assert_array_equal(saved["map"], np.asarray(again)[0])


@pytest.mark.slow
def test_fewer_samples_than_the_models_own_chunk(model, folder, monkeypatch):
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, chunk_size=4))
    monkeypatch.setattr("dave_jax.load", lambda name=None, *, image_size=None: model)
    used = []
    for options in ([], ["--samples", "2"]):
        assert main(["explain", "cat.png", *options]) == 0
        used.append(json.loads(str(np.load("cat.npz")["provenance"]))["config"])
    assert [(config["num_samples"], config["chunk_size"]) for config in used] == [(4, 4), (2, None)]


def test_any_method_explains(tiny, folder):
    assert main(["explain", "cat.png", "--method", "smoothgrad", "--samples", "3"]) == 0
    saved = np.load("cat.npz")
    provenance = json.loads(str(saved["provenance"]))
    assert provenance["settings"]["type"] == "SmoothGrad" and provenance["settings"]["num_samples"] == 3
    expected = SmoothGrad(num_samples=3)(tiny, tiny.preprocess("cat.png"), saved["target"][None], key=jax.random.key(0))
    np.testing.assert_array_equal(saved["map"], np.asarray(expected)[0])


def test_npy_holds_the_same_map(tiny, folder):
    assert main(["explain", "cat.png"]) == 0 and main(["explain", "cat.png", "--format", "npy"]) == 0
    np.testing.assert_array_equal(np.load("cat.npy"), np.load("cat.npz")["map"])


def test_json_is_one_document(tiny, folder, capsys):
    assert main(["explain", "cat.png", "grey.png", "text.jpg", "-o", "out", "--json"]) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert [photo["photo"] for photo in document["photos"]] == ["cat.png", "grey.png"]
    for photo in document["photos"]:
        expected = softmax(tiny.logits(tiny.preprocess(photo["photo"])))[0]
        assert [row["class"] for row in photo["predictions"]] == np.argsort(-expected).tolist()
        np.testing.assert_allclose([row["probability"] for row in photo["predictions"]], np.sort(expected)[::-1], rtol=1e-5)
        assert photo["targets"] == photo["predictions"][:1]
        assert all(Path(path).is_file() for path in photo["files"].values())
    assert document["model"] == "tiny" and document["config"]["num_samples"] == 4
    assert [failure["photo"] for failure in document["failed"]] == ["text.jpg"] and "not a photograph" in printed.err


def test_results_of_one_name_do_not_overwrite_each_other(tiny, folder):
    assert main(["explain", "cat.png", "other/cat.jpg", "-o", "out"]) == 0
    maps = [np.load(f"out/{name}.npz")["map"] for name in ("cat", "cat-2")]
    assert main(["explain", "other/cat.jpg", "-o", "alone"]) == 0
    np.testing.assert_array_equal(np.load("alone/cat.npz")["map"], maps[1])  # nor does a map depend on its company
    assert (maps[0] != maps[1]).any()


def test_paths_stay_clear_of_photographs_and_of_each_other(tmp_path):
    photos = [str(tmp_path / name) for name in ("a.jpg", "a.png", "A.gif", "a-2.jpg", "b.overlay.png", "b.jpg")]
    outputs = output_paths(photos, tmp_path, ".npz")
    names = [str(path).casefold() for paths in outputs for path in paths.values()]
    assert len(set(names)) == 18 and not set(names) & {photo.casefold() for photo in photos}
    assert [paths["map"].name for paths in outputs] == ["a.npz", "a-2.npz", "A-3.npz", "a-2-2.npz", "b.overlay.npz", "b-2.npz"]


def test_broken_photographs_are_named_and_the_rest_explained(tiny, folder, capsys):
    assert main(["explain", "text.jpg", "cat.png", "half.png", "absent.jpg", "-o", "out"]) == 1
    printed = capsys.readouterr()
    errors = printed.err.splitlines()
    assert len(errors) == 3 and all(line.startswith("dave-jax: error: ") for line in errors)
    assert all(any(name in line for line in errors) for name in ("text.jpg", "half.png", "absent.jpg"))
    assert sorted(path.name for path in Path("out").iterdir()) == ["cat.npz", "cat.overlay.png", "cat.panel.png"]
    assert "cat.png" in printed.out and "text.jpg" not in printed.out


def test_a_name_that_the_terminal_cannot_show(tiny, folder, monkeypatch):
    Path("cat.png").rename("löwe.png")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert main(["explain", "löwe.png"]) == 0
    assert b"l\\xf6we.png" in sys.stdout.buffer.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
def test_progress_goes_to_a_terminal_only(tiny, folder, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = {}
    for options in (["cat.png", "grey.png"], ["cat.png"], ["cat.png", "grey.png", "--json"]):
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert main(["explain", *options]) == 0
        shown[len(options)] = sys.stderr.getvalue()
    assert "2/2" in shown[2] and shown[1] == "" and shown[3] == ""
