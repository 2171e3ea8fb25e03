"""`explain_dataset`: every photograph of a data set, its maps into a store that survives interruptions."""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from dave_jax.attribution.method import Method
from dave_jax.batch.engine import compile_program
from dave_jax.batch.layout import Layout
from dave_jax.batch.listing import Photographs, fingerprint, list_photographs, place_of
from dave_jax.batch.maps import Maps, open_maps
from dave_jax.batch.reading import Reading
from dave_jax.batch.run import Outcome, Work, run
from dave_jax.batch.settled import choose_method, settle_method
from dave_jax.batch.store import Store, check_run, open_folder, open_store, read_attributes
from dave_jax.batch.wanted import Wanted, parse_targets, targets_of
from dave_jax.config import DaveConfig
from dave_jax.effective.decomposition import Decomposition
from dave_jax.evaluation.settings import as_json, method_as_json
from dave_jax.models.model import Model

PER_DEVICE = 8
"""Images of a batch for each device of a process, unless told otherwise: what a killed run computes again."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A run that is ready to start; from `prepare`.

    Attributes:
        work: what to compute.
        place: where it goes.
        layout: of the store.
        attributes: of the store.
        stored: whether the store is there already.
    """

    work: Work
    place: str
    layout: Layout
    attributes: dict[str, Any]
    stored: bool

    def open(self) -> Store:
        """The store, created if need be."""
        return open_store(self.place, self.layout, self.attributes)


def explain_dataset(
    model: Model,
    source: Any,
    path: str | os.PathLike[str],
    *,
    key: PRNGKeyArray,
    targets: Any = "top-1",
    method: str | Method | None = None,
    config: DaveConfig | None = None,
    decomposition: str | Decomposition = "effective",
    dtype: str = "float32",
    batch_size: int | None = None,
    num_workers: int = 0,
    retry_failed: bool = False,
    progress: bool = False,
) -> Maps:
    """Explain every photograph of a data set once; called again after an interruption, go on where it stopped.

    Image i of the data set gets the map that `explain(..., key=key, image_ids=jnp.array([i]))` gives it, on all devices of all processes
    (`jax.distributed`). Photographs that cannot be read are recorded with the reason. The finished store is the same, byte for byte, with
    and without interruptions.

    Args:
        model: what predicts.
        source: an image folder, a `.csv` or `.parquet` list with columns path and target, `.tar` archives (webdataset; also a pattern), a
            Hugging Face dataset on disk; or a sequence of paths, PIL images or arrays.
        path: of the store, a Zarr v3 group; or a URL for tensorstore (`gs://bucket/maps.zarr`).
        key: of all randomness.
        targets: `top-K` for the K most probable classes, `label` for what the source says, or class names and numbers.
        method: another way to explain than DAVE: its name or itself, with settings of its own. Image i gets the map that
            `method(..., key=key, image_ids=jnp.array([i]))` gives it.
        config: settings of DAVE; default the model's own.
        decomposition: of DAVE, its name or itself.
        dtype: of the maps, `float32` or `float16`.
        batch_size: images that a process computes, reads and writes at once; default eight for each of its devices, or the store's.
        num_workers: processes that read photographs; 0 for threads. Scripts that use them need `if __name__ == "__main__":`.
        retry_failed: read photographs that failed once more.
        progress: show it on standard error.

    Returns:
        The store, open for reading.

    Raises:
        ValueError: the store holds another run, or arguments do not fit; the message shows the difference.
        OSError: the source or the store cannot be reached, or a worker process died. The same call goes on.
        ModuleNotFoundError: grain or tensorstore is not installed (the extra `batch`).

    Example:
        >>> import tempfile, dave_jax as dave
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     photos = ["dave_jax/assets/photos/golf_ball.jpg", "missing.jpg"]
        ...     maps = dave.explain_dataset(dave.testing.tiny_model(), photos, f"{folder}/maps.zarr", key=jax.random.key(0))
        ...     maps[0].maps.shape, maps.reasons
        ((1, 16, 16), {1: "There is no file 'missing.jpg'. Check the path of the photograph."})
    """
    job = prepare(
        model,
        source,
        path,
        key=key,
        targets=targets,
        method=method,
        config=config,
        decomposition=decomposition,
        dtype=dtype,
        batch_size=batch_size,
    )
    execute(job, num_workers=num_workers, retry_failed=retry_failed, progress=progress)
    return open_maps(path)


def prepare(
    model: Model,
    source: Any,
    path: str | os.PathLike[str],
    *,
    key: PRNGKeyArray,
    targets: Any = "top-1",
    method: str | Method | None = None,
    config: DaveConfig | None = None,
    decomposition: str | Decomposition = "effective",
    dtype: str = "float32",
    batch_size: int | None = None,
) -> Job:
    """List and check everything; nothing is computed or written. Arguments as of `explain_dataset`."""
    if dtype not in ("float16", "float32"):
        raise ValueError(f"Maps are stored as float16 or float32; got {dtype!r}.")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
    place, way = os.fspath(path), choose_method(method, model, config, decomposition)
    photographs = list_photographs(source)
    wanted = parse_targets(model, targets)
    classes, unfit = targets_of(wanted, photographs, model)
    stored = (read_attributes(open_folder(place), place) or {}).get("run")
    way = settle_method(way, stored, model, wanted.count)
    size = batch_size or (stored or {}).get("batch_size") or PER_DEVICE * jax.local_device_count()
    size = min(size, len(photographs.names))
    run = _describe(model, photographs, wanted, key, way) | {"dtype": dtype, "batch_size": size}
    if stored is not None:
        check_run(stored, run, place)
    longest = max(len(name.encode(errors="replace")) for name in photographs.names)
    layout = Layout(len(photographs.names), wanted.count, model.preprocessing.image_size, size, max(longest, 1), dtype)
    options = {"key": key, "method": way, "batch_size": size, "num_targets": wanted.count, "top": wanted.top}
    program = cache(partial(compile_program, model, **options, dtype=dtype))
    work = Work(photographs, Reading(photographs, model.preprocessing, np.arange(0), unfit), classes, program)
    names = None if model.class_names is None else list(model.class_names)
    attributes = {"run": run, "class_names": names, "source": place_of(source)}
    return Job(work, place, layout, attributes, stored is not None)


def execute(
    job: Job,
    *,
    num_workers: int = 0,
    retry_failed: bool = False,
    progress: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Compute what is left of a job; `stop` is asked before each batch whether to end after those in flight."""
    return run(job.work, job.open(), num_workers=num_workers, retry_failed=retry_failed, progress=progress, stop=stop)


def _describe(model: Model, photographs: Photographs, wanted: Wanted, key: PRNGKeyArray, method: Method) -> dict[str, Any]:
    """All that the maps depend on, for JSON."""
    return {
        "dave_jax": version("dave-jax"),
        "model": {
            "name": model.name,
            "source": model.source,
            "checksum": checksum(model),
            "forward": as_json(model.forward),
            "preprocessing": as_json(model.preprocessing),
        },
        "data": {"kind": photographs.kind, "images": len(photographs.names), "fingerprint": fingerprint(photographs)},
        "targets": wanted.description,
        "method": type(method).__name__,
        **method_as_json(method),
        "key": {"type": str(key.dtype), "data": np.asarray(jax.random.key_data(key)).tolist()},
    }


def checksum(model: Model) -> str:
    """A hash of a model's parameters."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.params):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
