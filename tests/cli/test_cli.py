"""The command line: `models` and `calibrate`, bad input, exit codes and help, with a tiny model."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.cli import main
from dave_jax.models.preprocess import load_photo


def test_models_lists_names_and_marks_presets(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == dave.known_models()
    assert main(["models", "--filter", "deit_small_patch16*"]) == 0
    assert capsys.readouterr().out == "deit_small_patch16_224.fb_in1k  noise_alpha 0.5, the authors' preset\n"
    assert main(["models", "--filter", "deit3_small", "--json"]) == 0
    listed = {row["name"]: row["noise_alpha"] for row in json.loads(capsys.readouterr().out)}
    assert listed["deit3_small_patch16_224.fb_in1k"] == 0.5 and listed["deit3_small_patch16_384.fb_in1k"] is None


@pytest.mark.slow
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
    (["explain", "cat.png", "--method", "efective"], "Near names: effective"),
    (["explain", "cat.png", "--method", "all"], "No method is called 'all'"),
    (["explain", "cat.png", "--method", "legrad", "--samples", "3"], "--samples is no setting of the method 'legrad'"),
    (["explain", "cat.png", "-o", "grey.png"], "'grey.png' is a file"),
    (["calibrate", "absent.jpg"], "no file 'absent.jpg'"),
    (["calibrate", "text.jpg"], "'text.jpg' is not a photograph"),
    (["calibrate", "cat.png", "--tolerance", "0"], "tolerance is a change of probability"),
    (["calibrate", "cat.png", "-o", "curve.txt"], "an image file such as calibration.png"),
    (["models", "--filter", "vit_smalll"], "Near names: vit_small"),
    (["models", "--filter", "?"], "Without --filter all are listed"),
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

        monkeypatch.setattr("dave_jax.attribution.method.Method.__call__", explain)
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
