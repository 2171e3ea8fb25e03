"""The benchmark of time to an equally good map, from end to end on small models."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import headline

pytestmark = pytest.mark.parity


def test_from_end_to_end(shared, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(headline.compare_torch, "check", lambda job: {})  # has a test of its own, and takes two processes
    data = [f"--model={shared / 'models' / 'vit_s14_photos98'}", f"--data={shared / 'images'}", "--photographs=1", "--runs=1"]
    arguments = ["--models=vit_test", *data, "--reference=8", "--rounds=1", "--threads=1", "--devices=2", f"--output={tmp_path}"]
    result = headline.main([*arguments, "--theirs=1", "--ours=8"])
    (written,) = tmp_path.glob("headline_*.json")
    assert json.loads(written.read_text()) == result
    found = result["models"]["vit_test"]
    ours = [f"{side}, {method}" for side in ("ours", "ours on 2 devices") for method in ("one", "five")]
    assert {name: len(seconds) for name, seconds in found["seconds"].items()} == dict.fromkeys(["theirs", *ours], 1)
    theirs, shared = (found["seconds"][name][0] for name in ("theirs", "ours on 2 devices, five"))
    assert found["times_less"]["ours on 2 devices, five"] == pytest.approx(5 * theirs / shared)
    assert "times less" in capsys.readouterr().out
    monkeypatch.setattr(headline, "times", lambda name, given: pytest.fail("timed a worse map"))
    with pytest.raises(headline.Worse, match="4 samples of ours are less like the reference than 32 of theirs"):
        headline.main([*arguments, "--theirs=32", "--ours=4"])
