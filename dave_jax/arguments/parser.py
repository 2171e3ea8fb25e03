"""`parser`: the command line's, with all commands."""

import argparse
from typing import NoReturn

from dave_jax import __version__
from dave_jax.arguments.datasets import add_batch, add_evaluate, add_probe
from dave_jax.arguments.models import add_export, add_models
from dave_jax.arguments.pages import add_app, add_report, add_study
from dave_jax.arguments.photographs import add_calibrate, add_explain


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """The parser; a parsed command has its name as `command` and its module in `dave_jax` as `module`."""
    root = _Parser(prog="dave-jax", description="Pixel-level explanations of vision transformers.")
    root.add_argument("--version", action="version", version=f"dave_jax {__version__}")
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    for add in (add_explain, add_app, add_batch, add_evaluate, add_report, add_study, add_export, add_models, add_calibrate, add_probe):
        add(commands)
    return root
