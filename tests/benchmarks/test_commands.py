"""The commands of the benchmarks in the pages: there is such a script, and it takes these options."""

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOUND = (re.findall(r"python (benchmarks/\w+\.py[^`\n]*)", page.read_text(encoding="utf-8")) for page in PAGES)
COMMANDS = sorted({command for page in FOUND for command in page})
NEED_TORCH = {"compare_torch", "headline", "loading"}


class Parsed(Exception):
    """The options are right; nothing more is run."""


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_those_of_the_script(command, monkeypatch):
    script, *options = shlex.split(command)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    if Path(script).stem in NEED_TORCH:
        pytest.importorskip("timm")
    parse_args = argparse.ArgumentParser.parse_args

    def only_parse(self, *arguments):
        parse_args(self, *arguments)
        raise Parsed

    module = importlib.import_module(Path(script).stem)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    monkeypatch.setattr(sys, "argv", [script, *options])
    with pytest.raises(Parsed):
        module.main()


def test_every_script_has_a_command():
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert scripts == {Path(command.split()[0]).stem for command in COMMANDS}
