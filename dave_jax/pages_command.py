"""The commands `dave-jax report` and `dave-jax study`: pages of what `dave-jax batch` computed."""

import json
import sys
from argparse import Namespace
from typing import Any

from dave_jax.batch.extras import need
from dave_jax.evaluation.log import write_bytes, write_document
from dave_jax.pages.report import write_report
from dave_jax.pages.study import QUESTION, write_study
from dave_jax.pages.study_analysis import analyse, as_markdown


def report(arguments: Namespace) -> int:
    """Write the gallery of a store."""
    need("tensorstore")
    counts = write_report(arguments.store, arguments.output, source=arguments.source, progress=_progress(arguments))
    text = f"{counts['explained']} of {counts['images']} photographs, {counts['failed']} that could not be explained"
    text += f", {counts['pending']} still to come" if counts["pending"] else ""
    text += f"; {counts['lost']} not found again: give --source" if counts["lost"] else ""
    _tell(arguments, counts, f"{text}\nwrote {arguments.output / 'index.html'}")
    return 0


def study(arguments: Namespace) -> int:
    """Write the page of a study, or analyse its answers."""
    if arguments.analyse is not None:
        return _analyse(arguments)
    if arguments.output is None or len(arguments.stores) < 2:
        raise ValueError("A study needs two or more stores, and -o for its folder; or --analyse with the answers to one.")
    need("tensorstore")
    found = write_study(
        arguments.stores,
        arguments.output,
        seed=arguments.seed,
        question=arguments.question or QUESTION,
        trials=arguments.trials,
        repeats=arguments.repeats,
        checks=arguments.checks,
        intersection=arguments.intersection,
        source=arguments.source,
        progress=_progress(arguments),
    )
    text = f"{found['trials']} comparisons, {found['repeats']} of them twice, and {found['checks']} checks; study {found['study']}"
    text += "".join(f"\nleft out {name}: {reason}" for name, reason in found["left_out"].items())
    _tell(arguments, found, f"{text}\nwrote {arguments.output / 'index.html'}, and for you {found['key']}")
    return 0


def _analyse(arguments: Namespace) -> int:
    if arguments.stores:
        raise ValueError("--analyse takes answers and the study's key; leave out the stores.")
    found = analyse(arguments.analyse, key=arguments.key, seed=arguments.seed, attentive=arguments.attentive)
    text = as_markdown(found)
    if arguments.output is not None:
        write_bytes(arguments.output / "results.md", text.encode())
        write_document(arguments.output / "results.json", found)
    _tell(arguments, found, text.rstrip("\n"))
    return 0


def _progress(arguments: Namespace) -> bool:
    return sys.stderr.isatty() and not arguments.json


def _tell(arguments: Namespace, document: dict[str, Any], text: str) -> None:
    print(json.dumps(document, indent=2) if arguments.json else text)
