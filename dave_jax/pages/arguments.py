"""The arguments of `dave-jax report` and `dave-jax study`."""

import argparse
from collections.abc import Callable
from pathlib import Path

REPORT = """\
The folder opens as a file, DIR/index.html: a gallery of photographs and maps to sort and filter, with probabilities, bias shares,
completeness, settings, and what could not be explained. A store that is not finished is shown as far as it is. Photographs are read again
from where they were, or from --source.

examples:
  dave-jax report maps.zarr -o report
  dave-jax report gs://bucket/maps.zarr --source photos -o report
"""


STUDY = """\
The folder is a page for participants: of two stores' maps for the same photograph and class, which is better? Their answers stay in their
browser until they save them as CSV. Which picture is whose stands in DIR.key.json beside the folder, for you: do not hand it out.

With --analyse, Bradley-Terry strengths of the stores from the answers, with bootstrap intervals, consistency and bias to the left.

examples:
  dave-jax study one.zarr other.zarr -o study
  dave-jax study --analyse answers/*.csv --key study.key.json
"""


def add_report(report: argparse.ArgumentParser) -> None:
    """Those of `report`."""
    report.add_argument("store", metavar="STORE", help="what batch wrote: path or URL")
    _add_common(report)
    report.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the page")


def add_study(study: argparse.ArgumentParser, seed: Callable[[str], int]) -> None:
    """Those of `study`; `seed` reads one."""
    study.add_argument("stores", nargs="*", metavar="STORE", help="what batch wrote, for the same photographs and classes; two or more")
    _add_common(study)
    study.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for the page, or for the tables of --analyse")
    study.add_argument("--seed", type=seed, default=0, metavar="S", help="of what is random (default: %(default)s)")
    study.add_argument("--question", metavar="TEXT", help="what is asked; {class} stands for the class")
    study.add_argument(
        "--trials", type=int, default=100, metavar="N", help="comparisons for each participant, at most (default: %(default)s)"
    )
    study.add_argument("--repeats", type=float, default=0.1, metavar="P", help="part of them asked twice, to 1/3 (default: %(default)s)")
    study.add_argument("--checks", type=int, default=2, metavar="N", help="tasks that say which side to choose (default: %(default)s)")
    study.add_argument("--intersection", action="store_true", help="take the photographs and classes that all stores have")
    study.add_argument("--analyse", nargs="+", type=Path, metavar="CSV", help="answers to analyse")
    study.add_argument("--key", type=Path, metavar="JSON", help="the study's key (default: the *.key.json here that fits the answers)")
    study.add_argument("--attentive", action="store_true", help="leave out participants who failed a check")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", metavar="SOURCE", help="where the photographs are now (default: where they were)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
