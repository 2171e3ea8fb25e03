"""A tiny model that `dave.load` gives, and a working folder with photographs."""

import pytest
from command_line import named_model, write_photographs


@pytest.fixture(scope="module")
def model():
    return named_model()


@pytest.fixture
def tiny(model, monkeypatch):
    """`dave.load` gives a tiny model."""
    monkeypatch.setattr("dave_jax.load", lambda name=None, *, image_size=None: model)
    return model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with photographs."""
    monkeypatch.chdir(tmp_path)
    write_photographs()
    return tmp_path
