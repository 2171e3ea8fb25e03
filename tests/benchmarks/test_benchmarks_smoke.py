"""The benchmarks from end to end on tiny models, and the parts that decide what they report."""

import argparse
import json
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave
from dave_jax.attribution.methods import methods as every
from dave_jax.evaluation.data import read
from dave_jax.evaluation.settings import Settings

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import calibration_sweep
import comparison
import photographs
import sample_cost
import traced

pytestmark = pytest.mark.slow


def test_calibration_sweep(collection, tmp_path, capsys):
    arguments = [f"--model={collection / 'model'}", f"--data={collection}", f"--output={tmp_path / 'results'}", "--photos=12"]
    arguments += ["--confidence=0", "--samples=2", "--alphas=0.4,0", "--tolerances=0.02,0.1", "--grid"]
    result = calibration_sweep.main(arguments)
    (written,) = (tmp_path / "results").glob("calibration_sweep_*.json")
    assert json.loads(written.read_text()) == result
    assert result["settings"]["alphas"] == [0.0, 0.4]
    sizes = {"deletion": 12, "energy": len(result["with_region"]), "grid": len(result["mosaics"])}
    assert {name: np.shape(values) for name, values in result["scores"].items()} == {name: (2, size) for name, size in sizes.items()}
    assert sizes["energy"] and sizes["grid"]
    for group in result["mosaics"]:
        assert len({result["photographs"][i]["label"] for i in group}) == 4
    assert [pick["tolerance"] for pick in result["picks"]] == [0.02, 0.1]
    assert result["picks"][0]["noise_alpha"] <= result["picks"][1]["noise_alpha"]
    assert "in standard errors" in capsys.readouterr().out


def test_the_sweep_needs_photographs_that_the_model_knows(collection, capsys):
    with pytest.raises(SystemExit):
        calibration_sweep.main([])
    assert "give photographs" in capsys.readouterr().err
    model = dave.load(collection / "model")
    known = read(collection, model, skip_unknown=True)
    assert len(known) == 60
    with pytest.raises(ValueError, match=r"60 photographs are needed .* it does so with \d+ of 60"):
        photographs.choose(known, model, 60, confidence=0.22, seed=0)


def test_regret_is_paired_and_interpolated():
    alphas = [0.0, 0.2, 0.4]
    offsets = np.array([0.0, 5.0, -3.0, 8.0])  # photographs differ much more than alphas do
    scores = np.array([[0.5], [1.0], [0.0]]) + offsets
    found = calibration_sweep.regret(scores, alphas, 0.3, seed=0)
    assert found["best_alpha"] == 0.2
    assert found["score"] == pytest.approx(0.5 + offsets.mean())
    assert found["regret"] == pytest.approx(0.5)
    assert found["standard_error"] == pytest.approx(0.0, abs=1e-12)
    assert calibration_sweep.regret(scores, alphas, 0.2, seed=0)["regret"] == 0.0
    assert calibration_sweep.regret(scores, alphas, 0.9, seed=0)["regret"] == pytest.approx(1.0)  # the sweep's end


def test_standard_error_is_that_of_a_mean():
    values = np.random.default_rng(1).standard_normal(100)
    expected = values.std() / np.sqrt(len(values))
    assert calibration_sweep.standard_error(values, seed=0) == pytest.approx(expected, rel=0.1)  # 2000 resamples: 2 %


def test_sample_cost(tmp_path, capsys):
    result = sample_cost.main(["--model-size=test", "--samples=4", "--chunk=2", "--rounds=2", f"--output={tmp_path}"])
    (written,) = tmp_path.glob("sample_cost_*.json")
    assert json.loads(written.read_text()) == result
    parts = result["parts"]
    assert set(parts) == {"explain", *sample_cost.GROUPS, "sum of the stages"}
    assert parts["explain"]["share_of_min"] == 1.0
    assert all(0 < part["seconds_per_sample_min"] <= part["seconds_per_sample_median"] for part in parts.values())
    assert set().union(*sample_cost.GROUPS.values()) == set(result["seconds"]) - {"program"}  # each stage is counted, once
    operations = result["operations"]
    assert 1.0 <= operations["passes_once"] / operations["products_once"] < 1.1  # elementwise work is 3 % of this tiny model's
    assert operations["explain_once"] > operations["passes_once"]
    assert "% of explain" in capsys.readouterr().out


def test_sample_cost_stops_where_the_stages_are_not_explain(monkeypatch):
    monkeypatch.setattr(sample_cost, "close_share", lambda *_: 1.0)
    case = argparse.Namespace(
        explain=lambda **_: (jnp.ones((1, 2, 2, 3)), jnp.ones((1, 4, 2, 2, 3))), images=jnp.ones((1, 2, 2, 3)), config=dave.DaveConfig()
    )
    stages = {name: lambda: jnp.ones((4, 2, 2, 3)) for name in ("adjoint", "aggregate", "postprocess")}
    program = lambda: jnp.ones((1, 2, 2))
    assert sample_cost.check(case, program, stages)["samples"] == 0.0
    stages["adjoint"] = lambda: 1.01 * jnp.ones((4, 2, 2, 3))
    with pytest.raises(sample_cost.Disagreement, match="samples"):
        sample_cost.check(case, program, stages)


def test_chunks_must_be_alike():
    with pytest.raises(ValueError, match="divide the samples"):
        sample_cost.Case.build("test", 5, 2)


def test_products_are_those_of_the_layers():
    """A block's products with weights, forward and backward: 6 width^2 and 4 width hidden a token; and three of tokens with tokens."""
    config = sample_cost.Case.build("test", 2, 2).model.forward.config
    once, twice = (sample_cost.products(config, 3, depth) for depth in (1, 2))
    tokens, width, hidden = 17, config.width, config.mlp_width
    assert twice - once == 3 * 2 * (tokens * (6 * width**2 + 4 * width * hidden) + 3 * tokens**2 * width)


def test_comparison(collection, tmp_path):
    methods = {name: every[name] for name in ("effective", "centre")}
    settings = Settings(max_images=2, min_confidence=0.0)
    one = comparison.Run("tiny", "Tiny model", "model", "labels.json", methods, ("energypg", "pointing"), settings)
    text = comparison.execute(one, collection, tmp_path)
    assert "2 photographs and 0 mosaics" in text and "| centre |" in text
    assert comparison.execute(one, collection, tmp_path) == text  # a finished run is read, not done again


def test_comparison_names_what_is_there():
    for one in comparison.runs():
        assert one.methods and set(one.metrics) <= set(comparison.METRICS), one.name


def test_traced(tmp_path, capsys):
    result = traced.main(["--models=test", "--batch=2", "--rounds=2", "--compilations=1", f"--output={tmp_path}"])
    (written,) = tmp_path.glob("traced_*.json")
    assert json.loads(written.read_text()) == result
    (found,) = result["models"]
    assert found["difference"] < 1e-5
    assert isinstance(found["same_program"], bool)
    assert all(value > 0 for row in found["sides"].values() for value in row.values())
    assert found["sides"]["traced"]["gflop"] < 1.01 * found["sides"]["by hand"]["gflop"]
    assert set(found["ratio"]) == set(found["sides"]["traced"])
    assert "| tiny ViT | traced |" in capsys.readouterr().out


def test_traced_stops_where_the_sides_differ(monkeypatch):
    monkeypatch.setattr(traced, "distance", lambda *_: 1e-3)
    with pytest.raises(traced.Disagreement, match=r"tiny ViT differs by 1.0e-03"):
        traced.compare("test", 1, 1, 1)
