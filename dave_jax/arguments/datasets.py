"""Commands on data sets: `batch`, `evaluate`, `probe`."""

from pathlib import Path
from typing import Any

from dave_jax.arguments.common import add_command, add_label_field, add_method, add_model, add_prompts, add_samples, names

_BATCH = """\
SOURCE is a folder of images, a .csv or .parquet list (columns path and target), .tar archives (webdataset; also a pattern in quotes:
'train-{000..127}.tar'), or a Hugging Face dataset on disk.

The store is a Zarr v3 group with a map for each image, targets, logits, probabilities, bias shares, completeness, names, and for
photographs that cannot be read the reason; dave_jax.open_maps reads it, and `dave-jax report` makes a page of it. Interrupted, even by
kill -9, the same command goes on. SIGTERM ends a run after the batches in flight. docs/scaling.md tells how to run on several devices and
machines.

examples:
  dave-jax batch photos --samples 16 --dtype float16 -o maps.zarr
  dave-jax batch photos --method attn_lrp -o attn_lrp.zarr
  dave-jax batch 'train-{000..127}.tar' --model deit3_base_patch16_224.fb_in1k --workers 8 -o gs://bucket/maps.zarr
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


_PROBE = """\
Fits a linear classifier to the features of a network without its head, and writes a model that explain and evaluate take as --model DIR.
DATA is laid out as for evaluate. A tenth of it is held out to choose among learning rates and weight decays.

examples:
  dave-jax probe photos --model vit_small_patch14_dinov2.lvd142m --pooling token_and_mean -o probe
  dave-jax probe train.tar --validation val.tar --model vit_base_patch16_224.mae -o probe
"""


def add_batch(commands: Any) -> None:
    """`dave-jax batch`."""
    batch = add_command(commands, "batch", "explain a data set, into a store that survives interruptions", _BATCH, "batch_command")
    batch.add_argument("source", metavar="SOURCE", help="folder, list, archives or dataset")
    add_model(batch)
    add_prompts(batch)
    batch.add_argument(
        "--target",
        action="append",
        metavar="ID|NAME|top-K|label",
        help="class to explain; may be repeated (default: top-1, or all prompts); label: what SOURCE says",
    )
    add_samples(batch)
    add_method(batch)
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


def add_evaluate(commands: Any) -> None:
    """`dave-jax evaluate`."""
    evaluate = add_command(commands, "evaluate", "score methods on photographs with known answers", _EVALUATE, "evaluate")
    evaluate.add_argument("data", metavar="DATA", help="folder, table or archive of labelled photographs")
    add_model(evaluate)
    add_prompts(evaluate)
    evaluate.add_argument(
        "--protocol", default="quick", metavar="NAME", help="quick or dave-paper, where nothing else is given (default: %(default)s)"
    )
    evaluate.add_argument("--methods", type=names, metavar="A,B", help="or all (default: the protocol's)")
    evaluate.add_argument("--metrics", type=names, metavar="A,B", help="or all (default: the protocol's)")
    evaluate.add_argument("--samples", type=int, metavar="N", help="of the methods that average over samples")
    evaluate.add_argument("--noise-alpha", type=float, metavar="A", help="strongest noise level of DAVE (default: the model's own)")
    evaluate.add_argument("--max-images", type=int, metavar="K", help="photographs to explain alone, at most")
    evaluate.add_argument("--mosaics", type=int, metavar="K", help="mosaics to explain, at most")
    evaluate.add_argument("--min-confidence", type=float, metavar="P", help="least probability of a photograph's true class")
    add_label_field(evaluate)
    evaluate.add_argument("--skip-unknown", action="store_true", help="leave out photographs of classes that the model does not know")
    evaluate.add_argument(
        "--extend", action="append", type=Path, default=[], metavar="FILE", help="Python file that adds methods, decompositions or metrics"
    )
    evaluate.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the results")


def add_probe(commands: Any) -> None:
    """`dave-jax probe`."""
    probe = add_command(commands, "probe", "fit a classifier to the features of a network", _PROBE, "probe")
    probe.add_argument("data", metavar="DATA", help="folder, table or archive of labelled photographs")
    add_model(probe)
    probe.add_argument("--validation", metavar="DATA", help="other labelled photographs, to measure the accuracy on")
    probe.add_argument("--pooling", choices=("token", "avg", "token_and_mean"), help="of a ViT's tokens (default: the network's own)")
    probe.add_argument(
        "--pooled-blocks", type=int, metavar="N", help="take the class tokens of the last N blocks (default: the network's own)"
    )
    probe.add_argument("--epochs", type=int, default=100, metavar="N", help="passes over the features (default: %(default)s)")
    add_label_field(probe)
    probe.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the model")
