"""The documentation site: what its build does not see. .ci/run builds it, with warnings as errors, and runs the tutorial on the way."""

import json
import re
import runpy

import pytest
from PIL import Image
from test_api import EXPORTED, FILES, ROOT

TUTORIAL = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))


def script(name: str) -> dict:
    return runpy.run_path(str(ROOT / "docs" / f"{name}.py"))


def test_what_the_tutorial_shows_is_of_its_code():
    assert TUTORIAL["metadata"]["code"] == script("make_tutorial")["checksum"](TUTORIAL["cells"]), "run docs/make_tutorial.py"
    outputs = [output for cell in TUTORIAL["cells"] for output in cell.get("outputs", [])]
    pictures = [output["data"] for output in outputs if "data" in output]
    assert len(pictures) >= 5 and all(list(data) == ["image/jpeg"] for data in pictures)
    assert all(output["name"] == "stdout" for output in outputs if "name" in output)
    assert (ROOT / "docs" / "tutorial.ipynb").stat().st_size < 400_000


def test_the_tutorials_links_lead_somewhere():
    text = "".join("".join(cell["source"]) for cell in TUTORIAL["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert len(links) > 5 and all((ROOT / "docs" / link).exists() for link in links)


def test_the_reference_has_every_public_name_and_module():
    pages = script("make_reference")["pages"]()
    text = "\n".join(pages.values())
    described = re.findall(r"^\.\. auto(?:function|class):: dave_jax\.(\w+)$", text, flags=re.M)
    assert sorted(described) == sorted(EXPORTED)
    modules = re.findall(r"^\.\. automodule:: ([\w.]+)$", text, flags=re.M)
    files = {name: path for name, path in FILES.items() if name.startswith("dave_jax.") and not re.search(r"\._", name)}
    assert sorted(modules) == sorted(name for name, path in files.items() if path.stat().st_size)
    for name in [*EXPORTED, *modules]:
        assert re.search(rf"^\| \[`(?:dave\.)?{re.escape(name)}`\]\([^)]+\) \| \S.*\|$", text, flags=re.M), f"{name} has no line"


@pytest.mark.slow
def test_the_pictures_of_how_it_works_can_be_made(tmp_path):
    script("make_steps")["main"](["-o", str(tmp_path), "--samples", "1"])
    for name in ("how-it-works-steps.png", "how-it-works-grid.png"):
        with Image.open(tmp_path / name) as made, Image.open(ROOT / "docs" / name) as shown:
            assert made.size == shown.size and (ROOT / "docs" / name).stat().st_size < 200_000
