"""`python -m convert_weights`."""

import runpy
import sys

import pytest
from timm_checkpoints import assert_same, write_checkpoint

from convert_weights.__main__ import main
from dave_jax.models import hub


def test_a_converted_model_is_the_model(tmp_path, capsys):
    write_checkpoint(tmp_path / "timm", label_names=["a", "b", "c"])
    assert main([str(tmp_path / "timm"), "-o", str(tmp_path / "ours")]) == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "ours" / "model.safetensors") in said and "sha256:" in said
    model, converted = hub.load(tmp_path / "timm"), hub.load(tmp_path / "ours")
    assert_same(converted.params, model.params)
    assert (converted.name, converted.class_names, converted.forward) == (model.name, model.class_names, model.forward)
    assert converted.source.endswith(f", from {model.source}")


def test_another_image_size(tmp_path):
    write_checkpoint(tmp_path / "timm")
    assert main([str(tmp_path / "timm"), "-o", str(tmp_path / "ours"), "--image-size", "32"]) == 0
    assert hub.load(tmp_path / "ours").preprocessing.image_size == (32, 32)


@pytest.mark.parametrize("arguments", [["missing/", "-o", "out"], ["../missing", "-o", "out"], ["vit_smal_patch16_224", "-o", "out"]])
def test_errors_are_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("convert_weights: ")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_does_not_fit_is_one_line_too(tmp_path, capsys):
    write_checkpoint(tmp_path, num_classes=4)
    assert main([str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "head.bias" in said and said.count("\n") == 1


def test_converting_onto_the_source_is_refused(tmp_path, capsys):
    write_checkpoint(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    assert main([str(tmp_path), "-o", str(tmp_path)]) == 2
    assert "would be overwritten" in capsys.readouterr().err and (tmp_path / "model.safetensors").read_bytes() == before


def test_it_runs_as_a_module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["convert_weights", str(tmp_path / "none.safetensors"), "-o", str(tmp_path / "out")])
    monkeypatch.delitem(sys.modules, "convert_weights.__main__")
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("convert_weights", run_name="__main__")
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        main(["only-a-name"])
    assert stop.value.code == 2
