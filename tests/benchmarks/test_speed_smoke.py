"""The benchmarks of speed, samplers, pointing and precision from end to end on tiny models."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import environment
import memory
import plots
import pointing
import precision
import samplers
import scaling
import speed
import startup

pytestmark = pytest.mark.slow


def written(folder, name):
    (path,) = folder.glob(f"{name}_*.json")
    return json.loads(path.read_text())


def test_speed(tmp_path, capsys):
    options = ["--models=test", "--samples=4", "--chunks=2,4", "--rounds=2", "--precisions=float32,bfloat16", "--adjoints=scatter,gather"]
    result = speed.main([*options, f"--output={tmp_path}"])
    assert written(tmp_path, "speed") == result
    rows = result["models"][0]["rows"]
    assert len(rows) == 2 * (2 * 2 + 1)  # of each precision the adjoints and chunks, and the last with five classes
    assert all(0 < row["ms"] <= row["ms_median"] for row in rows)
    assert all((row["classes"] == 1) == ("utilisation" in row) == ("times_one" not in row) for row in rows)
    assert "utilisation" in capsys.readouterr().out


def test_speed_stops_where_a_map_is_another(monkeypatch):
    monkeypatch.setattr(speed, "LIKENESS", {"float32": 1.1})
    with pytest.raises(speed.Disagreement, match=r"1\.1 is asked"):
        speed.main(["--models=test", "--samples=2", "--rounds=1"])


def test_samplers(collection, tmp_path, capsys):
    options = [f"--model={collection / 'model'}", f"--data={collection}", "--photographs=3", "--confidence=0", "--reference=40"]
    result = samplers.main([*options, "--counts=2,50", "--repeats=2", f"--output={tmp_path / 'results'}"])
    assert written(tmp_path / "results", "samplers") == result
    correlation = np.array(result["correlation"])  # photographs, samplers, averages, counts, repeats
    assert correlation.shape == (3, len(result["settings"]["samplers"]), 5, 2, 2)
    assert correlation[..., 1, :].mean() > correlation[..., 0, :].mean()  # 50 samples are nearer than 2
    assert all(0 < share < 1 for share in result["control"])
    assert (np.diff(np.array(result["pilots"])[:, 0, :2].mean(0)) > 0).all()  # a larger pilot too
    assert "samples for the likeness of 50" in capsys.readouterr().out


def test_precision(collection, tmp_path):
    options = [f"--model={collection / 'model'}", f"--data={collection}", "--photographs=12", "--confidence=0"]
    result = precision.main([*options, "--mosaics=1", "--cell=8", "--samples=4", f"--output={tmp_path / 'results'}"])
    assert written(tmp_path / "results", "precision") == result
    likeness = {name: np.mean(values["correlation"]) for name, values in result["variants"].items()}
    assert likeness["highest"] > 1 - 1e-6 > likeness["bfloat16_products"] > likeness["bfloat16"] > likeness["other draws"]


def test_pointing(collection, tmp_path, capsys):
    options = [f"--model={collection / 'model'}", f"--data={collection}", "--photographs=12", "--confidence=0", "--cell=8"]
    result = pointing.main([*options, "--mosaics=3", "--counts=4,7", f"--output={tmp_path / 'results'}"])
    assert written(tmp_path / "results", "pointing") == result
    scores = np.array(result["scores"])  # ways, counts, mosaics
    assert scores.shape == (3, 2, 3) and (0 < scores).all() and (scores < 1).all()
    assert len(np.unique(scores)) == scores.size  # each way and number of samples has draws of its own
    assert "3 mosaics" in capsys.readouterr().out
    assert plots.main([str(tmp_path / "results"), str(tmp_path / "plots.png")]) == ["pointing"]


def test_collectives_are_read_from_the_program():
    text = "%a = f32[8,16]{1,0} all-to-all(%x)\n%b = (f32[4], f32[4]) all-reduce(%y, %z)\n%c = f32[2] add(%p, %q)"
    assert scaling.sent(text, 4) == {"all-to-all": 8 * 16 * 4 * 0.75, "all-reduce": 2 * 8 * 4 * 0.75}


def test_startup(tmp_path, capsys):
    result = startup.main(["--models=test", "--samples=2", "--only-explain", f"--output={tmp_path}"])
    assert written(tmp_path, "startup") == result
    assert result["models"]["test"]["empty"]["first"] > 0
    assert "| test | full |" in capsys.readouterr().out


def test_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment, "SETTINGS", ("",))
    options = ["--model-size=test", "--samples=2", "--rounds=2", "--threads=1"]
    result = environment.main([*options, "--also=GLIBC_TUNABLES=glibc.malloc.hugetlb=1", f"--output={tmp_path}"])
    assert written(tmp_path, "environment") == result
    assert result["found"][""]["times_faster"] == 1 and result["found"]["GLIBC_TUNABLES=glibc.malloc.hugetlb=1"]["times_faster"] > 0
    assert "| none |" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="no_such_platform"):  # the setting reaches the process
        environment.main([*options, "--also=JAX_PLATFORMS=no_such_platform"])
    monkeypatch.setattr(environment, "LIKENESS", {"float32": 1.1})
    with pytest.raises(speed.Disagreement, match="gives another map"):
        environment.main(options)


def test_memory_and_plots(tmp_path):
    result = memory.main(["--model-size=test", "--image-sizes=32", "--samples=4,40", "--pilot=8", f"--output={tmp_path}"])
    assert written(tmp_path, "memory") == result
    held = {(row["samples"], row["pilot"]): row["bytes"] for row in result["rows"]}
    assert set(held) == {(4, 4), (40, 8), (40, 40)} and held[40, 8] < held[40, 40]
    assert plots.main([str(tmp_path), str(tmp_path / "plots.png")]) == ["memory"]
    with pytest.raises(FileNotFoundError, match="no results to plot"):
        plots.main([str(tmp_path / "nowhere"), str(tmp_path / "none.png")])
