"""Every example in a docstring runs, and prints what it says."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("dave_jax", "convert_weights")
    for path in (ROOT / package).rglob("*.py")
    if path.name != "__main__.py"
)


def written_examples(path: Path) -> int:
    """How many `>>>` the docstrings of a file hold."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    texts = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    return sum(len(doctest.DocTestParser().get_examples(text)) for text in texts)


HEAVY = (
    *("dave_jax.attribution.", "dave_jax.batch.", "dave_jax.evaluation.", "dave_jax.pages.report"),
    *("dave_jax.models.convnext", "dave_jax.models.flax", "dave_jax.models.resnet", "dave_jax.models.swin"),
)
"""Beginnings of the modules whose examples compile much."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name.startswith(HEAVY) else ()) for name in MODULES])
def test_examples(name):
    module = importlib.import_module(name)
    assert module.__file__ is not None
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0
    assert results.attempted == written_examples(Path(module.__file__))  # a wrapper could hide a function from doctest


def test_there_are_examples():
    assert sum(written_examples(path) for path in (ROOT / "dave_jax").rglob("*.py")) > 50
