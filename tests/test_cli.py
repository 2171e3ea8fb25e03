"""The command line: files, printed text, JSON and exit codes, with a tiny model; and the whole way with the embedded one."""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import dave_jax as dave
from dave_jax import testing
from dave_jax.cli import main
from dave_jax.models.preprocess import load_photo
from dave_jax.plot import overlay
from dave_jax.results import output_paths

NAMES = ("tench", "church", "chain saw", "gas pump", "golf ball")
PHOTOS = sorted((Path(dave.__file__).parent / "assets" / "photos").glob("*.jpg"))


@pytest.fixture(scope="module")
def model():
    return dataclasses.replace(testing.tiny_model(), class_names=NAMES, source="made up")


@pytest.fixture
def tiny(model, monkeypatch):
    """`dave.load` gives a tiny model."""
    monkeypatch.setattr("dave_jax.load", lambda name=None, *, image_size=None: model)
    return model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with photographs: two of one name, one of them grey, and two that are broken."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name, shape in {"cat.png": (20, 30, 3), "other/cat.jpg": (40, 20, 3), "grey.png": (16, 16)}.items():
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, shape, np.uint8)).save(name)
    Path("text.jpg").write_text("not a photograph")
    Path("half.png").write_bytes(Path("cat.png").read_bytes()[:200])
    return tmp_path


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
        assert load_photo(f"out/maps/{stem}.overlay.png") == overlay(pixels, maps[0])
        assert load_photo(f"out/maps/{stem}.panel.png").width > (1 + len(targets)) * 200
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.startswith("cat.png\n") and "grey.png\n" in printed.out
    assert f"{softmax(tiny.logits(tiny.preprocess('cat.png')))[0, 1]:.1%}  church (1)  <- explained" in printed.out


def test_provenance_tells_all_that_a_map_depends_on(tiny, folder):
    options = ["--samples", "3", "--chunk", "2", "--noise-alpha", "0.25", "--seed", "7", "--decomposition", "gradient"]
    assert main(["explain", "cat.png", *options]) == 0
    saved = np.load("cat.npz")
    provenance = json.loads(str(saved["provenance"]))
    assert {name: provenance[name] for name in ("model", "source", "seed", "decomposition", "image_size", "photo")} == {
        "model": "tiny",
        "source": "made up",
        "seed": 7,
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


def test_fewer_samples_than_the_models_own_chunk(model, folder, monkeypatch):
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, chunk_size=4))
    used = []
    monkeypatch.setattr("dave_jax.load", lambda name=None, *, image_size=None: model)
    monkeypatch.setattr("dave_jax.explain", lambda *_, config, **__: used.append(config) or np.zeros((1, 1, 16, 16)))
    assert main(["explain", "cat.png"]) == 0 and main(["explain", "cat.png", "--samples", "2"]) == 0
    assert [(config.num_samples, config.chunk_size) for config in used] == [(4, 4), (2, None)]


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


def test_models_lists_names_and_marks_presets(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == dave.known_models()
    assert main(["models", "deit_small_patch16*"]) == 0
    assert capsys.readouterr().out == "deit_small_patch16_224.fb_in1k  noise_alpha 0.5, the authors' preset\n"
    assert main(["models", "deit3_small", "--json"]) == 0
    listed = {row["name"]: row["noise_alpha"] for row in json.loads(capsys.readouterr().out)}
    assert listed["deit3_small_patch16_224.fb_in1k"] == 0.5 and listed["deit3_small_patch16_384.fb_in1k"] is None


def test_calibrate_prints_and_draws_the_curve(tiny, folder, capsys):
    photos = ["cat.png", "other/cat.jpg", "text.jpg", "grey.png"]
    assert main(["calibrate", *photos, "--tolerance", "0.01", "-o", "new/curve.png", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    images = tiny.preprocess(["cat.png", "other/cat.jpg", "grey.png"])
    expected = dave.calibrate(tiny, images, key=jax.random.key(0), tolerance=0.01)
    assert document["photos"] == 3 and document["tolerance"] == 0.01
    np.testing.assert_allclose(document["change"], expected.change)
    np.testing.assert_allclose(document["noise_alpha"], expected.noise_alpha)
    assert dave.DaveConfig(**document["config"]) == expected.config
    assert load_photo("new/curve.png").size == (720, 432)
    assert main(["calibrate", "cat.png", "--tolerance", "0.01"]) == 0
    assert "noise_alpha" in capsys.readouterr().out and Path("calibration.png").is_file()


BAD = [
    ([], "required: COMMAND"),
    (["explane", "cat.png"], "invalid choice: 'explane'"),
    (["explain"], "required: PHOTO"),
    (["explain", "cat.png", "--samples", "many"], "invalid int value: 'many'"),
    (["explain", "cat.png", "--sampels", "4"], "unrecognized arguments: --sampels"),
    (["explain", "cat.png", "--seed", "-1"], "a seed is an integer from 0"),
    (["explain", "cat.png", "--seed", "4294967296"], "a seed is an integer from 0"),
    (["explain", "cat.png", "--format", "csv"], "invalid choice: 'csv'"),
    (["explain", "absent.jpg"], "no file 'absent.jpg'"),
    (["explain", "other"], "'other' is a folder"),
    (["explain", "text.jpg"], "'text.jpg' is not a photograph"),
    (["explain", "cat.png", "--samples", "0"], "num_samples must be an integer of at least 1; got 0"),
    (["explain", "cat.png", "--samples", "2", "--chunk", "3"], "chunk_size must be between 1 and num_samples=2"),
    (["explain", "cat.png", "--noise-alpha", "1.5"], r"noise_alpha must lie in [0, 1]; got 1.5"),
    (["explain", "cat.png", "--noise-alpha", "nan"], r"noise_alpha must lie in [0, 1]; got nan"),
    (["explain", "cat.png", "--target", "curch"], "Near names: ['church']"),
    (["explain", "cat.png", "--target", "5"], "lies in 0 to 4"),
    (["explain", "cat.png", "--target", "-1"], "got '-1'"),
    (["explain", "cat.png", "--target", "top-6"], "top-K needs K from 1 to 5"),
    (["explain", "cat.png", "--target", "top-0"], "top-K needs K from 1 to 5"),
    (["explain", "cat.png", "--decomposition", "efective"], "Did you mean 'effective'"),
    (["explain", "cat.png", "-o", "grey.png"], "'grey.png' is a file"),
    (["calibrate", "absent.jpg"], "no file 'absent.jpg'"),
    (["calibrate", "text.jpg"], "'text.jpg' is not a photograph"),
    (["calibrate", "cat.png", "--tolerance", "0"], "tolerance is a change of probability"),
    (["calibrate", "cat.png", "-o", "curve.txt"], "an image file such as calibration.png"),
    (["models", "vit_smalll"], "Near names: vit_small"),
    (["models", "?"], "Without a pattern all are listed"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tiny, folder, capsys):
    before = sorted(folder.rglob("*"))
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("dave-jax: error: ") and printed.err.count("\n") == 1 and message in printed.err
    assert sorted(folder.rglob("*")) == before  # nothing is left behind


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vit_smal_patch16_224"], "Near names: vit_small_patch16_224"),
        (["--model", "./absent"], "no file or folder"),
        (["--model", "cat.png"], "safetensors"),
        (["--image-size", "0"], "image_size"),
    ],
)
def test_bad_models_are_one_line_and_exit_code_2(arguments, message, folder, capsys):
    assert main(["explain", "cat.png", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("dave-jax: error: ") and printed.err.count("\n") == 1 and message in printed.err


def test_other_ends(tiny, folder, monkeypatch, capsys):
    def raises(error):
        def explain(*_, **__):
            raise error

        monkeypatch.setattr("dave_jax.explain", explain)
        return main(["explain", "cat.png"])

    assert raises(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "dave-jax: error: interrupted\n"
    assert raises(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")) == 2
    assert "--chunk" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="our own fault"):  # a bug keeps its traceback
        raises(RuntimeError("our own fault"))


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help"], ["--version"]])
def test_help_and_version(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0 and "dave" in capsys.readouterr().out


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    program = [sys.executable, "-m", "dave_jax", *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=300, check=False, cwd=Path(__file__).parents[1], **options)


def test_a_process_of_its_own(tmp_path):
    """The embedded model explains the embedded photographs."""
    done = run("explain", *map(str, PHOTOS), "--samples", "2", "--json", "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert [photo["photo"] for photo in document["photos"]] == [str(path) for path in PHOTOS]
    for photo in document["photos"]:
        saved = np.load(photo["files"]["map"])
        assert saved["map"].min() >= 0 and saved["map"].max() == pytest.approx(1)
        assert saved["target_name"][0] == photo["predictions"][0]["name"]


def test_a_process_reports_in_one_line():
    done = run("explain", "absent.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dave-jax: error: There is no file 'absent.jpg'. Check the path of the photograph.\n"


def test_a_closed_pipe_is_no_error():
    program = f"{sys.executable} -m dave_jax models | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", program], capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stderr == "" and done.stdout.count("\n") == 1


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.stem)
def test_the_embedded_model_recognises_the_embedded_photographs(photo, tmp_path, capsys):
    assert main(["explain", str(photo), "--samples", "2", "--json", "-o", str(tmp_path)]) == 0
    (result,) = json.loads(capsys.readouterr().out)["photos"]
    shown = photo.stem.replace("_", " ").split(" and ")
    assert sum(row["probability"] for row in result["predictions"] if any(thing in row["name"] for thing in shown)) > 0.5
    height, width = dave.load().preprocessing.image_size
    assert load_photo(result["files"]["overlay"]).size == (width, height)
    assert np.load(result["files"]["map"])["map"].shape == (1, height, width)
