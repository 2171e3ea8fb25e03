"""The pages: their snippets run, their commands run here or in .ci/run, their links lead somewhere, and what they state is so."""

import ast
import dataclasses
import inspect
import json
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import convert_weights.__main__ as convert_weights
import dave_jax as dave
from dave_jax import cli
from dave_jax.arguments.parser import parser
from dave_jax.attribution.methods import methods
from dave_jax.effective import decomposition
from dave_jax.evaluation.metrics import metrics
from dave_jax.models import hub

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/*.md"))]
PHOTOS = Path("dave_jax/assets/photos")
PROGRAMS = ("python ", "python3 ", "pip ", "dave-jax ", "sphinx-build ", "ruff ", "pyright", "pre-commit ", "bash ")

CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
SET_UP = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("python3 -m venv .venv && ")]
IN_CI = {
    SET_UP[0]: 'as_in_readme "${readme[0]}"',
    SET_UP[1]: 'as_in_readme "${readme[1]}"',
    "python3 -m venv .venv && . .venv/bin/activate": "as_in_readme",
    "pip install -e '.[test,dev]'": "install --quiet '.[dev]'",
    "pip install -e '.[parity]'": "install --quiet '.[parity]'",
    "pip install -e '.[zoo]'": "install --quiet '.[zoo]'",
    "pip install --no-deps --target .zoo -r tests/zoo/requirements.txt": '--no-deps --target "$work/zoo" -r tests/zoo/requirements.txt',
    "XLA_FLAGS= JAX_DISABLE_MOST_OPTIMIZATIONS=0 PYTHONPATH=.zoo python -m pytest tests/zoo -m zoo -n 2 -rP": (
        'JAX_DISABLE_MOST_OPTIMIZATIONS=0 PYTHONPATH=$work/zoo "$venv/bin/python" -m pytest tests/zoo -m zoo -n 2 -rP'
    ),
    "pip install -e '.[docs]'": "install --quiet '.[docs]'",
    "sphinx-build -W --keep-going -c docs . build/site": 'sphinx-build" -W --keep-going -q -c docs . "$work/site"',
    "ruff check": 'ruff" check',
    "ruff format --check": 'ruff" format --check',
    "pyright": 'pyright" --pythonpath',
    "python -m pytest -n 2": 'as_in_readme "${readme[1]}"',
    "python -m pytest -n 2 -m slow": "-m pytest -n 2 -m slow",
    "python -m pytest tests/parity -m parity -n 2": "-m pytest tests/parity -m parity -n 2",
}
"""Commands that cannot run inside a test, and what runs them in .ci/run."""

NOT_RUN = {"pre-commit install", "bash .ci/run"}  # the hooks are compared with .ci/run below; .ci/run runs this file


@dataclasses.dataclass(frozen=True)
class Block:
    """Code on a page: its language (`indented` for a block without a fence), and whether it needs the hub."""

    page: Path
    line: int
    language: str
    text: str
    needs_hub: bool = False


def blocks(page: Path) -> list[Block]:
    return parse(page)[0]


def prose(page: Path) -> str:
    return parse(page)[1]


def parse(page: Path) -> tuple[list[Block], str]:
    """The code on a page, and the rest."""
    text = page.read_text(encoding="utf-8")
    found = []

    def fenced(match: re.Match) -> str:
        line = text.count("\n", 0, match.start("text")) + 1
        found.append(Block(page, line, match["language"], match["text"], match["hub"] is not None))
        return "\n" * match[0].count("\n")

    rest = re.sub(r"^(?P<hub><!-- needs the hub -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", fenced, text, flags=re.M | re.S)
    for match in re.finditer(r"(?<=\n\n)(?: {4}\S.*\n)+", rest):
        found.append(Block(page, rest.count("\n", 0, match.start()) + 1, "indented", match[0]))
    return found, re.sub(r"^ {4}.*$", "", rest, flags=re.M)


def commands() -> list[tuple[Block, str]]:
    """Every command line, without its comment."""
    found = []
    for block in (block for page in PAGES for block in blocks(page)):
        lines = [re.sub(r"\s+# .*", "", line.strip()) for line in block.text.splitlines()]
        found += [(block, line) for line in lines if block.language == "sh" or (block.language == "indented" and line.startswith(PROGRAMS))]
    return found


def quick_and_slow(cases: list[Any], page_of: Any) -> list[Any]:
    """The README's and CONTRIBUTING's run with the other tests, the pages' with the slow ones."""
    return [pytest.param(*case, marks=() if page_of(case).parent == ROOT else pytest.mark.slow) for case in cases]


def identify(value: Any) -> str:
    if isinstance(value, Path):
        return str(value.relative_to(ROOT))
    return f"{value.page.relative_to(ROOT)}:{value.line}" if isinstance(value, Block) else "command"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder with the example pictures where the pages say they are."""
    shutil.copytree(ROOT / PHOTOS, tmp_path / PHOTOS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def registries():
    """A page adds its own; afterwards they are as they were."""
    known = decomposition.presets, methods, metrics
    before = [dict(registry) for registry in known]
    yield
    for registry, entries in zip(known, before, strict=True):
        registry.clear()
        registry.update(entries)


WITH_SNIPPETS = [(page,) for page in PAGES if any(block.language == "python" for block in blocks(page))]


@pytest.mark.parametrize("page", quick_and_slow(WITH_SNIPPETS, lambda case: case[0]), ids=identify)
def test_python_snippets_run_one_after_the_other(page, workplace, registries):
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python" and not block.needs_hub:
            source = "\n" * (block.line - 1) + block.text  # so that a traceback names the page's line
            exec(compile(source, str(page), "exec"), namespace)


OF_TRANSFORMERS = {
    *("google/vit-base-patch16-224", "facebook/dinov2-base-imagenet1k-1-layer"),
    *("openai/clip-vit-base-patch32", "google/siglip2-base-patch16-224", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
}
"""Repositories of transformers and open_clip, of which there is no list."""


def loads(name: str) -> bool:
    """Whether `dave.load` knows a name, or a repository of timm's, without asking the hub."""
    return name.removeprefix("timm/").partition("@")[0] in {*dave.known_models(), *OF_TRANSFORMERS}


def test_snippets_that_need_the_hub_name_what_there_is():
    calls = 0
    for block in (block for page in PAGES for block in blocks(page) if block.language == "python" and block.needs_hub):
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dave":
                assert hasattr(dave, node.attr), node.attr
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "dave.load":
                inspect.signature(dave.load).bind(*map(ast.unparse, node.args), **{str(word.arg): word.value for word in node.keywords})
                assert loads(ast.literal_eval(node.args[0])), ast.unparse(node)
                calls += 1
    assert calls >= 2


@pytest.mark.parametrize(("block", "command"), quick_and_slow(commands(), lambda case: case[0].page), ids=identify)
def test_commands_run(block, command, workplace, registries, monkeypatch, capsys):
    if command in IN_CI:
        assert IN_CI[command] in CI
        return
    if command in NOT_RUN:
        return
    for other in blocks(block.page):  # files that the page shows, named by their first line
        if name := re.match(r"# (\w+\.py)\n", other.text):
            Path(name[1]).write_text(other.text)
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S+", word)]
    if words[:2] == ["dave-jax", "app"]:  # serves until it is interrupted; tests/app opens the page
        assert all(loads(name) for name in parser().parse_args(words[1:]).model or ())
    elif words[0] == "dave-jax" and block.needs_hub:
        assert loads(parser().parse_args(words[1:]).model)
    elif words[0] == "dave-jax":
        assert cli.main(words[1:]) == 0
    elif words[:3] == ["python", "-m", "convert_weights"]:
        name, *options = words[3:]
        assert loads(name) or "/" in name
        dave.save(dave.testing.tiny_model(), "tiny")
        assert convert_weights.main(["tiny", *options]) == 0
        assert dave.load(options[options.index("-o") + 1]).name == "tiny"
    else:
        assert words[0] == "python", f"{block.page.name}:{block.line}: nothing runs {command!r}; see IN_CI"
        assert_takes_options(words[1:], monkeypatch, capsys)


def assert_takes_options(words: list[str], monkeypatch, capsys) -> None:
    """Of a script or module that takes long: it starts, and its help knows the options of the command."""
    target, *options = words[1:] if words[0] == "-m" else words
    monkeypatch.setattr(sys, "argv", [target, "--help"])
    with pytest.raises(SystemExit) as end:
        if words[0] == "-m":
            monkeypatch.delitem(sys.modules, target, raising=False)  # runpy warns of a module that is imported
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            monkeypatch.syspath_prepend(ROOT / Path(target).parent)
            runpy.run_path(str(ROOT / target), run_name="__main__")
    assert end.value.code == 0
    known = capsys.readouterr().out
    assert all(option in known for option in options if option.startswith("-"))


def test_the_set_up_is_the_readmes_first_two_commands():
    assert [command for block, command in commands() if block.page.name == "README.md" and block.page.parent == ROOT][:2] == SET_UP
    assert len(SET_UP) == 2 and str(PHOTOS) in SET_UP[0] and "pytest" in SET_UP[1]
    assert "grep '^python3 -m venv .venv && ' README.md" in CI


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_links_and_paths_lead_somewhere(page):
    text = prose(page)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in slugs(target), link
    for path in re.findall(r"`((?:dave_jax|convert_weights|tests|docs|benchmarks|\.ci)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path


def test_versions_stand_in_one_place():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = {page.name: re.findall(r"(?<![\d.])\d+\.\d+\.\d+(?![\d.])", page.read_text(encoding="utf-8")) for page in PAGES}
    assert {name for name, versions in found.items() if versions} == {"CHANGELOG.md"}


def test_hooks_are_the_checks_of_ci():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    entries = re.findall(r"entry: (.*)", hooks)
    assert entries == ["ruff check", "ruff format --check", "pyright"]
    assert all(IN_CI[entry] in CI for entry in entries)
    assert hooks.count("repo: local") == hooks.count("- repo:") and hooks.count("language: system") == len(entries)  # no other repository


def test_the_readmes_picture_can_be_made(tmp_path):
    runpy.run_path(str(ROOT / "docs" / "make_panel.py"))["main"](["-o", str(tmp_path / "panel.png"), "--samples", "2"])
    with Image.open(tmp_path / "panel.png") as made, Image.open(ROOT / "docs" / "panel.png") as shown:
        assert made.mode == shown.mode == "RGB" and made.size == shown.size


def test_the_table_of_checkpoints_is_what_loads():
    made = runpy.run_path(str(ROOT / "docs" / "make_coverage.py"))
    assert made["BEGIN"] + made["table"]() + made["END"] in made["PAGE"].read_text(encoding="utf-8"), "run docs/make_coverage.py"


def test_the_errors_in_the_table_are_within_what_the_page_promises():
    made, measured = (runpy.run_path(str(ROOT / "docs" / f"make_{name}.py")) for name in ("coverage", "parity"))
    errors = json.loads(made["PARITY"].read_text(encoding="utf-8"))
    assert {lineage: row["architecture"] for lineage, row in errors.items()} == {
        lineage: name for lineage, (name, _) in measured["TWINS"].items()
    }
    assert set(errors) <= {*made["LINEAGES"], *made["OTHERS"].values()}
    assert all(0 < row["logits"] < 1e-5 and 0 < row["gradients"] < 1e-4 for row in errors.values())


def test_the_card_of_the_embedded_model_is_true():
    card, model = (ROOT / "docs" / "default_model.md").read_text(encoding="utf-8"), dave.load()
    config = model.forward.config
    for fact in (
        f"{config.depth} blocks, width {config.width}, {config.num_heads} heads, MLP width {config.mlp_width}",
        "{} x {} pixels, patches of {} x {}".format(*config.image_size, *config.patch_size),
        ", ".join(model.class_names),
    ):
        assert fact in card, fact
    assert sum(file.stat().st_size for file in hub.EMBEDDED.iterdir()) <= 8 * 2**20
    log = (ROOT / "docs" / "default_model_training.jsonl").read_text(encoding="utf-8").splitlines()
    trained, resampled, shipped = (float(share) for share in re.findall(r"^\| .+ \| ([\d.]+) % \|$", card, flags=re.M))
    logged = [100 * json.loads(line)["accuracy"] for line in log[-2:]]  # the last epoch, and the same at the shipped size
    assert [trained, resampled] == pytest.approx(logged, abs=0.05)  # the card rounds
    assert shipped >= 85.0
