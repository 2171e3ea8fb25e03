"""The arguments of every command, and their help."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from dave_jax import __version__
from dave_jax.pages.arguments import REPORT, STUDY, add_report, add_study

_EXPLAIN = """\
For each PHOTO, three files appear in the folder:
  STEM.panel.png    photograph, heat map and overlay; with several targets a column each
  STEM.overlay.png  the overlay of the first target, in the model's image size
  STEM.npz          map (k, h, w), target, target_name, probability, pixels (what the model saw), provenance (JSON)
Photographs of one name get numbers: cat, cat-2. The same seed gives the same maps.

examples:
  dave-jax explain cat.jpg
  dave-jax explain *.jpg --model deit3_small_patch16_224.fb_in1k --target top-3 -o maps
  dave-jax explain cat.jpg --model clip-folder --prompt "a photo of a cat" --prompt "a photo of a dog"
"""


_EVALUATE = """\
DATA is a folder with a folder of images for each class, a .tar of such folders, a JSON or CSV table of photographs with labels, boxes and
masks, or a folder with such a table (labels.json, labels.csv).

The folder of the results gets scores.jsonl (a line for each method and photograph or mosaic), summary.json, table.md, differences.md,
timing.md, curves and heat maps as PNG, and index.html, which shows them. An interrupted run goes on with the same command and ends with
the same scores. More methods may be added at the end.

examples:
  dave-jax evaluate photos --methods dave,attn_lrp,smoothgrad --metrics gridpg,deletion --samples 16 --max-images 100 -o results
  dave-jax evaluate imagenet-val --model deit3_base_patch16_224.fb_in1k --protocol dave-paper -o results
"""


_BATCH = """\
SOURCE is a folder of images, a .csv or .parquet list (columns path and target), .tar archives (webdataset; also a pattern in quotes:
'train-{000..127}.tar'), or a Hugging Face dataset on disk.

The store is a Zarr v3 group with a map for each image, targets, logits, probabilities, bias shares, completeness, names, and for
photographs that cannot be read the reason; dave_jax.open_maps reads it, and `dave-jax report` makes a page of it. Interrupted, even by
kill -9, the same command goes on. SIGTERM ends a run after the batches in flight. docs/scaling.md tells how to run on several devices and
machines.

examples:
  dave-jax batch photos --samples 16 --dtype float16 -o maps.zarr
  dave-jax batch 'train-{000..127}.tar' --model deit3_base_patch16_224.fb_in1k --workers 8 -o gs://bucket/maps.zarr
"""


_EXPORT = """\
Writes the program of explain, for normalised images, targets and a key, to a file that JAX runs without dave_jax, and beside it a manifest
(.json): shapes, preprocessing, class names, settings. docs/export.md shows how to run it.

examples:
  dave-jax export --batch 8 --samples 16 -o dave.stablehlo
  dave-jax export --model deit3_base_patch16_224.fb_in1k --batch any --platforms cuda,tpu --weights beside -o deit3.stablehlo
"""


_APP = """\
Opens a page on which photographs are explained: drop one or pick an example, choose classes or a contrast of two, and watch the map become
sharper. Needs the extra app: pip install 'dave-jax[app]'.

It listens at 127.0.0.1, which only this machine reaches. Uploads stay in a temporary folder, which is removed at the end. Visitors choose
among the models that are named here; they can load no others.

examples:
  dave-jax app
  dave-jax app --model deit3_small_patch16_224.fb_in1k --model ./my-model --port 8000 --no-browser
"""


_PROBE = """\
Fits a linear classifier to the features of a network without its head, and writes a model that explain and evaluate take as --model DIR.
DATA is laid out as for evaluate. A tenth of it is held out to choose among learning rates and weight decays.

examples:
  dave-jax probe photos --model vit_small_patch14_dinov2.lvd142m --pooling token_and_mean -o probe
  dave-jax probe train.tar --validation val.tar --model vit_base_patch16_224.mae -o probe
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """The parser; a parsed command has its name as `command` and its module in `dave_jax` as `module`."""
    root = _Parser(prog="dave-jax", description="Pixel-level explanations of vision transformers.")
    root.add_argument("--version", action="version", version=f"dave_jax {__version__}")
    commands = root.add_subparsers(metavar="COMMAND", required=True)

    explain = _command(commands, "explain", "explain photographs: which pixels speak for a class", _EXPLAIN)
    _add_photos(explain)
    _add_model(explain)
    _add_prompts(explain)
    explain.add_argument(
        "--target", action="append", metavar="ID|NAME|top-K", help="class to explain; may be repeated (default: top-1, or all prompts)"
    )
    _add_samples(explain)
    explain.add_argument("--method", default="dave", metavar="NAME", help="dave, or another of docs/evaluation.md (default: %(default)s)")
    explain.add_argument("--format", choices=("npz", "npy"), default="npz", help="of the map; npy holds its numbers only")
    explain.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR", help="folder for the results (default: this one)")

    _add_app(commands)
    _add_batch(commands)
    _add_evaluate(commands)
    add_report(_command(commands, "report", "make a page of a store of maps", REPORT, "pages_command"))
    add_study(
        _command(commands, "study", "ask people which of two stores' maps are better, or analyse their answers", STUDY, "pages_command"),
        _seed,
    )
    _add_export(commands)

    models = _command(commands, "models", "list the models of timm that load by name")
    models.add_argument("--filter", metavar="PATTERN", help="part of a name, or a pattern with * and ?")
    models.add_argument("--json", action="store_true", help="print one JSON document")

    calibrate = _command(commands, "calibrate", "find the noise level that suits a model")
    _add_photos(calibrate)
    _add_model(calibrate)
    _add_prompts(calibrate)
    calibrate.add_argument(
        "--tolerance", type=float, default=0.2, metavar="P", help="accepted change of the probability (default: %(default)s)"
    )
    calibrate.add_argument(
        "-o", "--output", type=Path, default=Path("calibration.png"), metavar="PNG", help="drawing (default: %(default)s)"
    )

    probe = _command(commands, "probe", "fit a classifier to the features of a network", _PROBE, "probe")
    probe.add_argument("data", metavar="DATA", help="folder, table or archive of labelled photographs")
    _add_model(probe)
    probe.add_argument("--validation", metavar="DATA", help="other labelled photographs, to measure the accuracy on")
    probe.add_argument("--pooling", choices=("token", "avg", "token_and_mean"), help="of a ViT's tokens (default: the network's own)")
    probe.add_argument(
        "--pooled-blocks", type=int, metavar="N", help="take the class tokens of the last N blocks (default: the network's own)"
    )
    probe.add_argument("--epochs", type=int, default=100, metavar="N", help="passes over the features (default: %(default)s)")
    _add_label_field(probe)
    probe.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the model")
    return root


def _add_app(commands: Any) -> None:
    app = _command(commands, "app", "open a page on which photographs are explained", _APP, "app_command")
    app.add_argument("--model", action="append", metavar="NAME|PATH", help="as for explain; may be repeated (default: the embedded model)")
    app.add_argument("--image-size", type=int, metavar="N", help="height and width in pixels (default: each model's own)")
    _add_prompts(app)
    app.add_argument("--samples", type=int, default=32, metavar="N", help="to begin with (default: %(default)s)")
    app.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen at; 0.0.0.0 is every one (default: %(default)s)")
    app.add_argument("--port", type=int, default=7860, metavar="P", help="0 takes a free one (default: %(default)s)")
    app.add_argument("--no-browser", action="store_true", help="do not open the page")
    app.add_argument("--max-megabytes", type=float, default=20.0, metavar="M", help="of an uploaded file (default: %(default)g)")
    app.add_argument("--max-megapixels", type=float, default=50.0, metavar="M", help="of an uploaded photograph (default: %(default)g)")
    app.add_argument("--no-cache", action="store_true", help="keep no compiled programs on disk")


def _add_batch(commands: Any) -> None:
    batch = _command(commands, "batch", "explain a data set, into a store that survives interruptions", _BATCH, "batch_command")
    batch.add_argument("source", metavar="SOURCE", help="folder, list, archives or dataset")
    _add_model(batch)
    _add_prompts(batch)
    batch.add_argument(
        "--target",
        action="append",
        metavar="ID|NAME|top-K|label",
        help="class to explain; may be repeated (default: top-1, or all prompts); label: what SOURCE says",
    )
    _add_samples(batch)
    batch.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the maps (default: %(default)s)")
    batch.add_argument("--batch-size", type=int, metavar="B", help="images a process computes at once (default: 8 for each of its devices)")
    batch.add_argument(
        "--workers", type=int, default=2, metavar="N", help="processes that read photographs; 0: threads (default: %(default)s)"
    )
    batch.add_argument("--dry-run", action="store_true", help="print the plan, with one timed batch, and write nothing")
    batch.add_argument("--retry-failed", action="store_true", help="read photographs that failed once more")
    batch.add_argument("--distributed", action="store_true", help="one of several processes, which JAX finds: TPU, Slurm, Open MPI")
    batch.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, where JAX does not find the processes")
    batch.add_argument("--processes", type=int, metavar="N", help="how many there are")
    batch.add_argument("--process", type=int, metavar="I", help="which one this is, from 0")
    batch.add_argument(
        "--heartbeat", type=int, default=100, metavar="S", help="seconds until a silent process is dead (default: %(default)s)"
    )
    batch.add_argument("-o", "--output", required=True, metavar="STORE", help="path of the store, or URL (gs://, s3://)")


def _add_evaluate(commands: Any) -> None:
    evaluate = _command(commands, "evaluate", "score methods on photographs with known answers", _EVALUATE, "evaluate")
    evaluate.add_argument("data", metavar="DATA", help="folder, table or archive of labelled photographs")
    _add_model(evaluate)
    _add_prompts(evaluate)
    evaluate.add_argument(
        "--protocol", default="quick", metavar="NAME", help="quick or dave-paper, where nothing else is given (default: %(default)s)"
    )
    evaluate.add_argument("--methods", type=_names, metavar="A,B", help="or all (default: the protocol's)")
    evaluate.add_argument("--metrics", type=_names, metavar="A,B", help="or all (default: the protocol's)")
    evaluate.add_argument("--samples", type=int, metavar="N", help="of the methods that average over samples")
    evaluate.add_argument("--noise-alpha", type=float, metavar="A", help="strongest noise level of DAVE (default: the model's own)")
    evaluate.add_argument("--max-images", type=int, metavar="K", help="photographs to explain alone, at most")
    evaluate.add_argument("--mosaics", type=int, metavar="K", help="mosaics to explain, at most")
    evaluate.add_argument("--min-confidence", type=float, metavar="P", help="least probability of a photograph's true class")
    _add_label_field(evaluate)
    evaluate.add_argument("--skip-unknown", action="store_true", help="leave out photographs of classes that the model does not know")
    evaluate.add_argument(
        "--extend", action="append", type=Path, default=[], metavar="FILE", help="Python file that adds methods, decompositions or metrics"
    )
    evaluate.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the results")


def _add_export(commands: Any) -> None:
    export = _command(commands, "export", "write the program of explain to a file that JAX alone runs", _EXPORT, "export_command")
    _add_model(export, seed=False)
    _add_prompts(export)
    export.add_argument("--batch", type=_batch, default=1, metavar="B", help="images of a call, or any (default: %(default)s)")
    export.add_argument(
        "--platforms", type=_names, default=["cpu", "cuda", "tpu"], metavar="A,B", help="of cpu, cuda, rocm, tpu (default: cpu,cuda,tpu)"
    )
    export.add_argument("--targets", type=int, default=1, metavar="K", help="of each image (default: %(default)s)")
    export.add_argument(
        "--target-kind", choices=("id", "cotangent", "top"), default="id", help="what the program takes; top: none (default: %(default)s)"
    )
    export.add_argument("--weights", choices=("inside", "beside"), default="inside", help="where they go (default: %(default)s)")
    _add_samples(export)
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the program, FILE.stablehlo")


def _command(commands: Any, name: str, text: str, epilog: str | None = None, module: str = "commands") -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, help=text, description=text.capitalize(), epilog=epilog, formatter_class=formatter)
    parser.set_defaults(command=name, module=module)
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"a seed is an integer from 0 to 2**32 - 1; got {text!r}")
    return int(text)


def _batch(text: str) -> int | str:
    if text != "any" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a batch is a number of images, or any; got {text!r}")
    return text if text == "any" else int(text)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _add_label_field(parser: argparse.ArgumentParser) -> None:
    text = "field of a table that holds the class (default: %(default)s)"
    parser.add_argument("--label-field", default="label", metavar="NAME", help=text)


def _add_photos(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="image file")


def _add_model(parser: argparse.ArgumentParser, *, seed: bool = True) -> None:
    parser.add_argument("--model", metavar="NAME|PATH", help="timm name, org/repo[@revision], folder or file (default: the embedded model)")
    parser.add_argument("--image-size", type=int, metavar="N", help="height and width in pixels (default: the model's own)")
    if seed:
        parser.add_argument("--seed", type=_seed, default=0, metavar="S", help="of what is random (default: %(default)s)")
    parser.add_argument("--no-cache", action="store_true", help="keep no compiled programs on disk from one start to the next")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _add_samples(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, metavar="N", help="neighbours to average (default: the method's or the model's own number)")
    parser.add_argument("--chunk", type=int, metavar="N", help="samples computed at once (default: what the memory holds)")
    parser.add_argument("--noise-alpha", type=float, metavar="A", help="strongest noise level, from 0 to 1 (default: the model's own)")


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="sentence for a model of images and text; may be repeated")
    parser.add_argument("--template", action="append", metavar="TEXT", help="sentence with {} for each prompt; several are averaged")
