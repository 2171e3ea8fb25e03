"""`dave-jax probe`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dave_jax as dave
from dave_jax import cli


@pytest.fixture
def colours(folder):
    """Class folders of red and blue photographs, and more of them to validate on."""
    generator = np.random.default_rng(0)
    for name, count in {"train": 10, "more": 3}.items():
        for channel, colour in ((0, "red"), (2, "blue")):
            (folder / name / colour).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 100, (16, 16, 3), np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / name / colour / f"{i}.png")
    return folder


def test_writes_a_model_that_load_reads(tiny, colours, monkeypatch, capsys):
    assert cli.main(["probe", "train", "--validation", "more", "--epochs", "20", "-o", "probe", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["classes"] == ["blue", "red"]
    assert result["photographs"] == 20
    assert result["validation"] == {"photographs": 6, "accuracy": 1.0}
    assert json.loads(Path("probe/probe.json").read_text()) == result
    monkeypatch.undo()
    model = dave.load(colours / "probe")
    assert model.class_names == ("blue", "red")
    assert "made up, probe on 20 photographs" in model.source
    logits = model.logits(model.preprocess(str(colours / "train/red/0.png")))
    assert int(np.argmax(logits)) == 1


def test_says_what_it_found(tiny, colours, capsys):
    assert cli.main(["probe", "train", "--epochs", "2", "-o", "probe"]) == 0
    out = capsys.readouterr().out
    assert "18 photographs of 2 classes; best of 20 heads" in out
    assert "2 photographs held out" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There is no data"),
        (["train", "--validation", "nowhere"], "There is no data"),
        (["other"], "holds no photograph with a label"),
        (["train", "--pooling", "max"], "invalid choice"),
        (["train", "--validation", "other"], "holds no photograph with a label"),
        (["train", "--epochs", "0"], "epochs must be at least 1"),
    ],
)
def test_bad_input_ends_with_one_line(arguments, message, tiny, colours, capsys):
    assert cli.main(["probe", *arguments, "-o", "probe"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("probe").exists()


def test_nothing_is_fitted_for_a_folder_that_cannot_be_written(tiny, colours, monkeypatch, capsys):
    monkeypatch.setattr("dave_jax.probe.linear_probe", None)
    Path("file").touch()
    assert cli.main(["probe", "train", "-o", "file"]) == 2
    assert "-o must name a folder" in capsys.readouterr().err
    Path("taken").mkdir()
    Path("taken/tokenizer.json").touch()
    assert cli.main(["probe", "train", "-o", "taken"]) == 2
    assert "of another origin" in capsys.readouterr().err
