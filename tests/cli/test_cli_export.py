"""The command line: `export`."""

import json

import pytest

from dave_jax.cli import main

pytestmark = pytest.mark.usefixtures("tiny", "folder")


@pytest.mark.slow
def test_it_writes_the_program_and_says_what_it_takes(capsys, folder):
    assert main(["export", "--batch", "2", "--platforms", "cpu", "--samples", "2", "--weights", "beside", "-o", "out/tiny.stablehlo"]) == 0
    printed = capsys.readouterr().out
    assert "images   float32 [2, 16, 16, 3]" in printed and "wrote out/tiny.stablehlo" in printed
    manifest = json.loads((folder / "out" / "tiny.json").read_text())
    assert manifest["settings"]["cpu"]["num_samples"] == 2 and manifest["model"]["class_names"][4] == "golf ball"
    assert main(["export", "-o", "out/tiny.stablehlo"]) == 2
    assert "there is already out/tiny.stablehlo, out/tiny.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--platforms", "cpu,gpu"], "got 'gpu'. Did you mean cuda or rocm?"),
        (["--batch", "-1"], "--batch: a batch is a number of images, or any; got '-1'"),
        (["--batch", "0"], "got 0"),
        (["--targets", "9"], "at most 5"),
        (["--chunk", "0"], "chunk_size must be between 1"),
        (["--seed", "0"], "unrecognized arguments: --seed"),
    ],
)
def test_errors_say_what_to_do(arguments, message, capsys, folder):
    assert main(["export", *arguments, "-o", "x.stablehlo"]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "x.stablehlo").exists()
