"""The command line in a process of its own, and the whole way with the embedded model."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dave_jax as dave
from dave_jax.cli import main
from dave_jax.models.preprocess import load_photo

PHOTOS = sorted((Path(dave.__file__).parent / "assets" / "photos").glob("*.jpg"))


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    program = [sys.executable, "-m", "dave_jax", *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=300, check=False, cwd=Path(__file__).parents[2], **options)


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
        ["bash", "-o", "pipefail", "-c", program], capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).parents[2]
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
