"""Commands that make pages: `app`, `report`, `study`."""

import argparse
from pathlib import Path
from typing import Any

from dave_jax.arguments.common import add_command, add_prompts, seed_number

_APP = """\
Opens a page on which photographs are explained: drop one or pick an example, choose classes or a contrast of two, and watch the map become
sharper. Needs the extra app: pip install 'dave-jax[app]'.

It listens at 127.0.0.1, which only this machine reaches. Uploads stay in a temporary folder, which is removed at the end. Visitors choose
among the models that are named here; they can load no others.

examples:
  dave-jax app
  dave-jax app --model deit3_small_patch16_224.fb_in1k --model ./my-model --port 8000 --no-browser
"""


_REPORT = """\
The folder opens as a file, DIR/index.html: a gallery of photographs and maps to sort and filter, with probabilities, bias shares,
completeness, settings, and what could not be explained. A store that is not finished is shown as far as it is. Photographs are read again
from where they were, or from --source.

examples:
  dave-jax report maps.zarr -o report
  dave-jax report gs://bucket/maps.zarr --source photos -o report
"""


_STUDY = """\
The folder is a page for participants: of two stores' maps for the same photograph and class, which is better? Their answers stay in their
browser until they save them as CSV. Which picture is whose stands in DIR.key.json beside the folder, for you: do not hand it out.

With --analyse, Bradley-Terry strengths of the stores from the answers, with bootstrap intervals, consistency and bias to the left.

examples:
  dave-jax study one.zarr other.zarr -o study
  dave-jax study --analyse answers/*.csv --key study.key.json
"""


def add_app(commands: Any) -> None:
    """`dave-jax app`."""
    app = add_command(commands, "app", "open a page on which photographs are explained", _APP, "app_command")
    app.add_argument("--model", action="append", metavar="NAME|PATH", help="as for explain; may be repeated (default: the embedded model)")
    app.add_argument("--image-size", type=int, metavar="N", help="height and width in pixels (default: each model's own)")
    add_prompts(app)
    app.add_argument("--samples", type=int, default=32, metavar="N", help="to begin with (default: %(default)s)")
    app.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen at; 0.0.0.0 is every one (default: %(default)s)")
    app.add_argument("--port", type=int, default=7860, metavar="P", help="0 takes a free one (default: %(default)s)")
    app.add_argument("--no-browser", action="store_true", help="do not open the page")
    app.add_argument("--max-megabytes", type=float, default=20.0, metavar="M", help="of an uploaded file (default: %(default)g)")
    app.add_argument("--max-megapixels", type=float, default=50.0, metavar="M", help="of an uploaded photograph (default: %(default)g)")
    app.add_argument("--no-cache", action="store_true", help="keep no compiled programs on disk")


def add_report(commands: Any) -> None:
    """`dave-jax report`."""
    report = add_command(commands, "report", "make a page of a store of maps", _REPORT, "pages_command")
    report.add_argument("store", metavar="STORE", help="what batch wrote: path or URL")
    _add_common(report)
    report.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the page")


def add_study(commands: Any) -> None:
    """`dave-jax study`."""
    text = "ask people which of two stores' maps are better, or analyse their answers"
    study = add_command(commands, "study", text, _STUDY, "pages_command")
    study.add_argument("stores", nargs="*", metavar="STORE", help="what batch wrote, for the same photographs and classes; two or more")
    _add_common(study)
    study.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for the page, or for the tables of --analyse")
    study.add_argument("--seed", type=seed_number, default=0, metavar="S", help="of what is random (default: %(default)s)")
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
