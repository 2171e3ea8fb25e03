"""`docs/extending.md` by itself is enough: its files, as they stand there, add a decomposition, a method and a metric."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from dave_jax.attribution.methods import methods
from dave_jax.cli import main
from dave_jax.effective.decomposition import presets
from dave_jax.evaluation.metrics import metrics

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The files of the page and the example photographs; afterwards the registries are as they were."""
    photos = Path("dave_jax", "assets", "photos")
    shutil.copytree(ROOT / photos, tmp_path / photos)
    monkeypatch.chdir(tmp_path)
    for source in re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.M | re.S):
        Path(re.match(r"# (\w+\.py)\n", source)[1]).write_text(source)
    before = [dict(registry) for registry in (presets, methods, metrics)]
    yield tmp_path
    for registry, entries in zip((presets, methods, metrics), before, strict=True):
        registry.clear()
        registry.update(entries)


def test_what_the_page_adds_is_compared(place):
    (command,) = re.findall(r"^    (dave-jax evaluate .*)$", PAGE, flags=re.M)
    assert main(shlex.split(command)[1:]) == 0
    lines = [json.loads(line) for line in Path("scores/scores.jsonl").read_text().splitlines()]
    scores = {}
    for line in lines:
        scores.setdefault(line["method"], []).append(line["scores"]["spread"]["share"])
    assert set(scores) == {"input_x_gradient", "halfway", "dave_halfway", "absolute"}
    means = {method: np.mean(shares) for method, shares in scores.items()}
    assert all(0.0 < mean < 0.9 for mean in means.values()) and len(set(means.values())) == 4
    assert means["absolute"] > means["input_x_gradient"]  # positive everywhere
    assert "| dave_halfway | " in Path("scores/table.md").read_text()


def test_a_file_that_is_not_there(place, capsys):
    assert main(["evaluate", "dave_jax/assets/photos", "--extend", "absent.py", "-o", "new"]) == 2
    assert "--extend takes a Python file; there is none at 'absent.py'" in capsys.readouterr().err
