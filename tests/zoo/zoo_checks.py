"""What must hold for a model that nobody here wrote."""

import dataclasses
import importlib.metadata
import importlib.util
import math
import re
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dave_jax as dave

CONFIG = dave.DaveConfig(num_samples=2, noise_alpha=0.2)

MARKS = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]  # the libraries' own deprecations are not ours to repair

SINGLE = 1e-6
"""Tolerance for libraries that compute in float32 inside, whatever the inputs are: rounding of a few hundred sums, relative."""


def library(name: str) -> ModuleType:
    """A library of the `zoo` extra; its tests are skipped where it is absent or does not start with the others installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"needs {name}; see CONTRIBUTING.md for the libraries of tests/zoo", exc_type=ImportError)


def fields(size: int) -> dict[str, Any]:
    """The fields of a model of square images."""
    return dict(preprocessing=dave.Preprocessing(image_size=(size, size)), config=CONFIG)


def randomise(tree: Any, seed: int = 0) -> Any:
    """Arrays in double precision, moved from where a library's initialisation has them: norms are no identity, biases not zero, and
    running variances positive and far from one."""
    rng = np.random.default_rng(seed)

    def move(path: Any, leaf: Any) -> Any:
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        if re.search(r"var(iance|_ema)?\b", jax.tree_util.keystr(path)):
            return jnp.asarray(rng.uniform(0.5, 2.0, leaf.shape))
        if leaf.ndim < 2:
            return jnp.asarray(np.asarray(leaf, float) + 0.2 * rng.standard_normal(leaf.shape))
        outputs = max(leaf.shape[0], leaf.shape[-1], leaf.shape[-2] if leaf.shape[-1] == 1 else 1)  # whatever the order of a kernel's axes
        return jnp.asarray(np.asarray(leaf, float) + math.sqrt(2 * outputs / leaf.size) * rng.standard_normal(leaf.shape))

    return jax.tree_util.tree_map_with_path(move, tree)


def check(package: str, architecture: str, model: dave.Model, tolerance: float = 1e-12) -> dave.Report:
    """Values, completeness, a map and a report of a model with random weights; prints a row of the table in docs/any-model.md."""
    model = dataclasses.replace(model, params=randomise(model.params))
    size = model.preprocessing.image_size
    images = jnp.asarray(np.random.default_rng(1).standard_normal((2, *size, 3)))
    logits = model.logits(images)
    report = dave.inspect(lambda image: model.forward(model.params, image, "gradient"), images[0])
    scale = float(jnp.abs(logits[0]).max())
    assert scale > 1e-3 and float(jnp.std(logits[0])) > 1e-4 * scale  # the weights make different logits
    error = float(jnp.abs(report.outputs - logits[0]).max()) / scale
    assert error < tolerance
    assert report.residual < tolerance
    assert float(jnp.abs(report.image).max()) > 1e-3 * scale  # the image accounts for something
    assert float(jnp.abs(report.leak).max()) == 0

    maps = dave.explain(model, images, [0, 1], key=jax.random.key(0))
    assert maps.shape == (2, *size)
    assert bool(jnp.isfinite(maps).all())
    assert jnp.allclose(maps.max((1, 2)), 1)
    assert float(jnp.std(maps, axis=(1, 2)).min()) > 1e-2  # neither is constant

    text = str(report)
    assert len(text.splitlines()) == 1 + len(report.rows()) and "residual" in text
    found, _, _ = report.summary().partition(";")
    version = ".".join(importlib.metadata.version(package).split(".")[:2])
    print(f"| {package} {version} | {architecture} | {error:.0e} | {report.residual:.0e} | {found} |")
    return report


Cases = dict[str, Callable[[], dave.Model]]
