"""The command line: `batch`, its plan, its output and its errors."""

import json
import sys

import numpy as np
import pytest

import dave_jax as dave
from dave_jax.cli import main

pytestmark = pytest.mark.usefixtures("tiny", "folder")
RUN = ["batch", ".", "--no-cache", "--workers", "0", "--samples", "2", "-o", "out/maps.zarr"]


@pytest.mark.slow
def test_a_run_is_summed_up_and_a_second_finds_nothing_to_do(capsys):
    assert main([*RUN, "--batch-size", "4", "--dtype", "float16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [found[name] for name in ("images", "explained", "failed", "computed")] == [5, 3, 2, 5]
    maps = dave.open_maps("out/maps.zarr")
    assert maps.names == ["cat.png", "grey.png", "half.png", "other/cat.jpg", "text.jpg"] and sorted(maps.reasons) == [2, 4]
    assert maps.arrays["maps"].dtype.numpy_dtype == np.float16 and maps.attributes["run"]["config"]["num_samples"] == 2
    assert maps.attributes["class_names"][4] == "golf ball"
    assert main([*RUN, "--dtype", "float16"]) == 0
    printed = capsys.readouterr()
    assert "3 of 5 photographs explained, 0 of them now" in printed.out and "--retry-failed" in printed.out and not printed.err
    assert main([*RUN, "--dtype", "float16", "--noise-alpha", "0.25"]) == 2
    assert "config.noise_alpha: 0.5 -> 0.25" in capsys.readouterr().err
    assert main([*RUN, "--dtype", "float16", "--target", "church"]) == 2
    assert 'targets: "top-1" -> [1]' in capsys.readouterr().err


@pytest.mark.slow
def test_another_method_has_a_store_of_its_own(capsys):
    way = [*RUN[:-4], "--method", "smoothgrad", "--samples", "3", "-o", "other.zarr"]
    assert main([*way, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "method: SmoothGrad" in printed and "samples: 3" in printed
    assert main(way) == 0
    assert main(["explain", "cat.png", "--method", "smoothgrad", "--samples", "3"]) == 0
    maps = dave.open_maps("other.zarr")
    np.testing.assert_array_equal(maps[0].targets, np.load("cat.npz")["target"])
    assert maps.attributes["run"]["settings"]["num_samples"] == 3
    assert main([*way[:-2], "--method", "dave", "-o", "other.zarr"]) == 2
    assert 'holds another run (method: "SmoothGrad" -> "Dave")' in capsys.readouterr().err


@pytest.mark.slow
def test_progress_is_a_line_of_json_for_each_batch(capsys):
    assert main([*RUN, "--batch-size", "2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["batch"], line["done"], line["of"], line["failed"]) for line in lines] == [(0, 2, 5, 0), (1, 4, 5, 1), (2, 5, 5, 2)]
    assert lines[0]["images_per_second"] is None and lines[1]["images_per_second"] > 0 and lines[2]["seconds_left"] == 0


@pytest.mark.slow
def test_a_dry_run_prints_the_plan_and_writes_nothing(capsys, folder):
    assert main([*RUN, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["images"] == 5 and planned["samples"] == 2 and planned["seconds_left"] > 0
    assert main([*RUN, "--dry-run"]) == 0
    assert "seconds_per_batch: " in capsys.readouterr().out
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch", "nowhere", "-o", "x.zarr"], "There is no data 'nowhere'"),
        (["batch", ".", "-o", "cat.png"], "'cat.png' is a file"),
        (["batch", ".", "-o", "x.zarr", "--target", "top-9"], "K from 1 to 5"),
        (["batch", ".", "-o", "x.zarr", "--dtype", "float64"], "invalid choice"),
        (["batch", ".", "-o", "x.zarr", "--method", "efective"], "Near names: effective"),
        (["batch", ".", "-o", "x.zarr", "--method", "legrad", "--samples", "3"], "--samples is no setting of the method 'legrad'"),
        (["batch", "."], "required: -o"),
    ],
)
def test_errors_say_what_to_do(arguments, message, capsys, folder):
    assert main([*arguments, "--no-cache"]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "x.zarr").exists()


def test_the_extra_is_named_where_it_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    assert main(RUN) == 2
    assert "needs the package tensorstore, which is not installed: pip install 'dave-jax[batch]'" in capsys.readouterr().err


@pytest.mark.slow
def test_where_no_photograph_can_be_read_the_code_says_so(capsys, folder):
    (folder / "list.csv").write_text("path\nmissing.png\n")
    assert main(["batch", "list.csv", "--no-cache", "--workers", "0", "--samples", "1", "-o", "none.zarr"]) == 2
    assert "0 of 1 photographs explained" in capsys.readouterr().out
