"""`explain_dataset`: every photograph of a data set, its maps into a store that survives interruptions."""

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dave_jax.attribution.fit import fitted
from dave_jax.batch.engine import compile_program
from dave_jax.batch.layout import Layout
from dave_jax.batch.listing import Photographs, fingerprint, list_photographs, place_of
from dave_jax.batch.maps import Maps, open_maps
from dave_jax.batch.reading import Reading, read
from dave_jax.batch.run import Outcome, Work, run
from dave_jax.batch.store import Store, check_run, open_folder, open_store, read_attributes
from dave_jax.batch.wanted import Wanted, parse_targets, targets_of
from dave_jax.config import DaveConfig
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.evaluation.settings import as_json
from dave_jax.models.model import Model

_LEFT_OPEN = ("chunk_size", "precision", "warp_adjoint", "mad_pilot")
"""Settings that may be None."""

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
        config: settings; default the model's own.
        decomposition: its name or itself.
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
        model, source, path, key=key, targets=targets, config=config, decomposition=decomposition, dtype=dtype, batch_size=batch_size
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
    place, rules = os.fspath(path), resolve(decomposition)
    photographs = list_photographs(source)
    wanted = parse_targets(model, targets)
    classes, unfit = targets_of(wanted, photographs, model)
    stored = (read_attributes(open_folder(place), place) or {}).get("run")
    config = _decided(model.config if config is None else config, stored, model, rules, wanted)
    size = batch_size or (stored or {}).get("batch_size") or PER_DEVICE * jax.local_device_count()
    size = min(size, len(photographs.names))
    run = _describe(model, photographs, wanted, key, config, rules) | {"dtype": dtype, "batch_size": size}
    if stored is not None:
        check_run(stored, run, place)
    longest = max(len(name.encode(errors="replace")) for name in photographs.names)
    layout = Layout(len(photographs.names), wanted.count, model.preprocessing.image_size, size, max(longest, 1), dtype)
    options = {"key": key, "config": config, "rules": rules, "batch_size": size, "num_targets": wanted.count, "top": wanted.top}
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


def plan(job: Job) -> dict[str, Any]:
    """What a run would do, for JSON: devices, batches, chunk, memory, and the time that is left by one timed batch. Writes nothing."""
    store = job.open() if job.stored else Store(job.place, job.layout, {})
    pending = store.pending() if job.stored else list(range(store.num_batches))
    size, count = job.layout.batch_size, job.layout.count
    devices = jax.local_devices()
    first = np.arange(count)[store.rows(pending[0] if pending else 0)]
    with read(dataclasses.replace(job.work.reading, due=first), size, 0) as batches:
        content = next(batches)
    start = time.perf_counter()
    program = job.work.compile()
    compiled = time.perf_counter()
    jax.block_until_ready(program(content["image"], content["index"], job.work.targets[first]))
    ran = time.perf_counter()
    jax.block_until_ready(program(content["image"], content["index"], job.work.targets[first]))
    seconds = time.perf_counter() - ran
    maps = count * job.layout.num_targets * int(np.prod(job.layout.image_size)) * np.dtype(job.layout.dtype).itemsize
    return {
        "source": job.attributes["run"]["data"],
        "images": count,
        "processes": jax.process_count(),
        "devices": [f"{len(devices)} x {devices[0].device_kind}", f"{jax.device_count()} in all"],
        "batch_size": size,
        "batches": store.num_batches,
        "batches_left": len(pending),
        "samples": job.attributes["run"]["config"]["num_samples"],
        "chunk": job.attributes["run"]["config"]["chunk_size"],
        "bytes_per_device": program.memory,
        "bytes_of_maps": maps,
        "seconds_to_compile": round(compiled - start, 2),
        "seconds_per_batch": round(seconds, 4),
        "seconds_left": round(compiled - start + seconds * -(-len(pending) // jax.process_count()), 1),
    }


def _decided(config: DaveConfig, stored: dict[str, Any] | None, model: Model, rules: Decomposition, wanted: Wanted) -> DaveConfig:
    """The settings with what they leave open: as the store has it, or what suits this device; so that a run goes on alike on another."""
    if stored is not None and stored["config"]["num_samples"] == config.num_samples:
        open_ = {name: stored["config"].get(name) for name in _LEFT_OPEN if getattr(config, name) is None}
        config = dataclasses.replace(config, **open_)
    image = jax.ShapeDtypeStruct((*model.preprocessing.image_size, 3), jnp.float32)
    return fitted(config, model, rules, image, wanted.count)


def _describe(
    model: Model, photographs: Photographs, wanted: Wanted, key: PRNGKeyArray, config: DaveConfig, rules: Decomposition
) -> dict[str, Any]:
    """All that the maps depend on, for JSON."""
    settings = {name: value if value is None or isinstance(value, int | str) else float(value) for name, value in vars(config).items()}
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
        "config": settings,
        "decomposition": as_json(rules),
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
