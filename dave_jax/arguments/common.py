"""Arguments that several commands have."""

import argparse
from typing import Any


def add_command(commands: Any, name: str, text: str, epilog: str | None = None, module: str = "commands") -> argparse.ArgumentParser:
    """A parser for a command, whose function is that of the same name in a module of `dave_jax`."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, help=text, description=text.capitalize(), epilog=epilog, formatter_class=formatter)
    parser.set_defaults(command=name, module=module)
    return parser


def seed_number(text: str) -> int:
    """A seed, from text."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"a seed is an integer from 0 to 2**32 - 1; got {text!r}")
    return int(text)


def names(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",")]


def add_label_field(parser: argparse.ArgumentParser) -> None:
    """The field of tables that holds the class."""
    text = "field of a table that holds the class (default: %(default)s)"
    parser.add_argument("--label-field", default="label", metavar="NAME", help=text)


def add_photos(parser: argparse.ArgumentParser) -> None:
    """Photographs by name."""
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="image file")


def add_model(parser: argparse.ArgumentParser, *, seed: bool = True) -> None:
    """The model, and what every command that takes one has."""
    parser.add_argument("--model", metavar="NAME|PATH", help="timm name, org/repo[@revision], folder or file (default: the embedded model)")
    parser.add_argument("--image-size", type=int, metavar="N", help="height and width in pixels (default: the model's own)")
    if seed:
        parser.add_argument("--seed", type=seed_number, default=0, metavar="S", help="of what is random (default: %(default)s)")
    parser.add_argument("--no-cache", action="store_true", help="keep no compiled programs on disk from one start to the next")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def add_samples(parser: argparse.ArgumentParser) -> None:
    """Settings of the averages over samples."""
    parser.add_argument("--samples", type=int, metavar="N", help="neighbours to average (default: the method's or the model's own number)")
    parser.add_argument("--chunk", type=int, metavar="N", help="samples computed at once (default: what the memory holds)")
    parser.add_argument("--noise-alpha", type=float, metavar="A", help="strongest noise level, from 0 to 1 (default: the model's own)")


def add_method(parser: argparse.ArgumentParser) -> None:
    """How to explain."""
    parser.add_argument("--method", default="dave", metavar="NAME", help="dave, or another of docs/evaluation.md (default: %(default)s)")


def add_prompts(parser: argparse.ArgumentParser) -> None:
    """Sentences for a model of images and text."""
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="sentence for a model of images and text; may be repeated")
    parser.add_argument("--template", action="append", metavar="TEXT", help="sentence with {} for each prompt; several are averaged")
