"""The PyTorch side of the benchmark against the authors' recordings, and the benchmark from end to end on a tiny model."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import compare_torch
from sides import Job, TorchSide

pytestmark = pytest.mark.parity

LIMITS = {"w_eff": 1e-4, "raw": 0.99, "post": 1e-5}


def torch_side(folder, recordings, variant) -> TorchSide:
    return TorchSide(Job("vit_test", folder, recordings, images=1, samples=2, chunk=None, variant=variant, threads=1))


@pytest.mark.parametrize("variant", compare_torch.VARIANTS)
def test_pytorch_reproduces_the_recordings(shared, tmp_path, variant):
    found = torch_side(tmp_path, shared / "goldens", variant).check_recordings()
    assert set(found) == {"vit", "deit3", "avgpool", "registers", "qknorm"}
    for name, distances in found.items():
        compare_torch.require(name, distances, LIMITS)


def test_a_wrong_recording_stops_the_benchmark(shared, tmp_path):
    recordings = tmp_path / "recordings"
    shutil.copytree(shared / "goldens", recordings, copy_function=shutil.copyfile)
    recordings.chmod(0o755)
    arrays = dict(np.load(recordings / "vit.npz"))
    np.savez(recordings / "vit.npz", **(arrays | {"noise": 1.01 * arrays["noise"]}))
    found = torch_side(tmp_path, recordings, "authors").check_recordings()
    with pytest.raises(compare_torch.Disagreement, match=r"recording vit: w_eff .* \(limit 0.0001\)"):
        compare_torch.require("recording vit", found["vit"], LIMITS)
    compare_torch.require("recording deit3", found["deit3"], LIMITS)


def test_from_end_to_end(shared, tmp_path, capsys):
    arguments = ["--models=vit_test", "--quick", "--threads=1", f"--recordings={shared / 'goldens'}", f"--output={tmp_path}"]
    result = compare_torch.main(arguments)
    (written,) = tmp_path.glob("compare_torch_*.json")
    assert json.loads(written.read_text()) == result
    found = result["models"]["vit_test"]
    assert found["agreement"]["sides"]["w_eff"] < 1e-4
    for side in ("dave_jax", "pytorch"):
        assert len(found[side]["seconds_per_sample"]) == 2
        assert 0 < found[side]["seconds_per_sample_min"] <= found[side]["seconds_per_sample_median"]
        assert 0 < found[side]["memory_loaded_mib"] <= found[side]["memory_first_mib"]
    assert result["context"]["versions"]["torch"]
    assert "times faster" in capsys.readouterr().out


def test_an_unknown_model_is_refused(capsys):
    with pytest.raises(SystemExit):
        compare_torch.main(["--models", "vit_huge"])
    assert "vit_huge" in capsys.readouterr().err
