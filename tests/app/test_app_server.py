"""Where the server listens and writes, and what the command says when it cannot; without gradio."""

import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

import dave_jax as dave
from dave_jax.app import server
from dave_jax.app_command import load_models
from dave_jax.arguments.parser import parser
from dave_jax.cli import main


def test_an_address_that_is_taken_or_not_ours():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match=f"Cannot listen at 127.0.0.1:{port} .*Choose another --port"),
            server._listening("127.0.0.1", port),
        ):
            pass
    with pytest.raises(OSError, match=r"--host must be an address of this machine; got '999\.1\.1\.1'"), server._listening("999.1.1.1", 0):
        pass
    with server._listening("127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_everything_written_is_in_a_folder_that_goes_away():
    before = dict(os.environ), tempfile.gettempdir()
    with server._folder() as folder, server._at_home(folder):
        assert Path(tempfile.mkdtemp()).parent == folder and Path(os.environ["GRADIO_TEMP_DIR"]).parent == folder
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        examples = server._examples(folder / "uploads")
        assert len(examples) == 3 and all(folder in path.parents for path in examples)
    assert not folder.exists() and (dict(os.environ), tempfile.gettempdir()) == before


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("box.example", False)]
)
def test_what_is_this_machine_only(host, local):
    assert server._is_local(host) == local


def test_the_command_without_gradio(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app"]) == 2
    assert "pip install 'dave-jax[app]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "--port must lie in 0 to 65535"),
        (["--max-megapixels", "0"], "megapixels must be positive"),
        (["--samples", "2"], "--samples must lie in 4 to 1024"),
        (["--prompt", "a cat"], "--prompt and --template are for models of images and text"),
    ],
)
def test_bad_options_are_one_line(options, message, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # as if gradio were here
    monkeypatch.setattr("dave_jax.load", lambda name=None, *, image_size=None: dave.testing.tiny_model())
    assert main(["app", *options]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1


def test_several_models_are_told_apart(monkeypatch):
    monkeypatch.setattr("dave_jax.load", lambda name=None, *, image_size=None: dave.testing.tiny_model())
    models, sources = load_models(parser().parse_args(["app", "--model", "one", "--model", "two", "--image-size", "16"]))
    assert list(models) == ["tiny", "tiny (two)"] == list(sources)
    assert [(source.name, source.image_size) for source in sources.values()] == [("one", 16), ("two", 16)]


@pytest.mark.slow
def test_models_of_images_and_text_need_sentences(monkeypatch):
    monkeypatch.setattr("dave_jax.load", lambda name=None, *, image_size=None: dave.testing.tiny_image_text())
    with pytest.raises(ValueError, match="needs sentences"):
        load_models(parser().parse_args(["app"]))
    models, sources = load_models(parser().parse_args(["app", "--prompt", "a cat", "--prompt", "a dog", "--template", "a photo of {}"]))
    (model,), (source,) = models.values(), sources.values()
    assert model.class_names == ("a cat", "a dog") and source.prompts == ("a cat", "a dog") and source.templates == ("a photo of {}",)
