"""The run: read, compute and write at the same time, batch by batch, until no batch is left.

    grain's workers --batches--> devices --maps--> one writing thread --tensorstore--> the store

While a batch is computed the next are read and the one before is written; at most `_IN_FLIGHT` wait to be written: memory stays flat.
"""

import collections
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np

from dave_jax.batch.engine import Program
from dave_jax.batch.layout import EXPLAINED, FAILED
from dave_jax.batch.listing import Photographs, as_bytes, as_text
from dave_jax.batch.processes import agree
from dave_jax.batch.progress import Progress
from dave_jax.batch.reading import REASON_BYTES, Reading, read
from dave_jax.batch.store import Store

_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes:
        images: of the data set.
        explained: of those, in the store.
        failed: of those, with the reason in the store.
        computed: images that this process dealt with.
        seconds: that this took, with compilation.
        stopped: whether it was asked to stop before the end.
    """

    images: int
    explained: int
    failed: int
    computed: int
    seconds: float
    stopped: bool


@dataclasses.dataclass(frozen=True)
class Work:
    """What a run computes with.

    Attributes:
        photographs: of the data set.
        reading: none of them due yet.
        targets: class ids of each, Int[images k].
        compile: makes the program, when there is something to compute.
    """

    photographs: Photographs
    reading: Reading
    targets: np.ndarray
    compile: Callable[[], Program]


def run(work: Work, store: Store, *, num_workers: int, retry_failed: bool, progress: bool, stop: Callable[[], bool]) -> Outcome:
    """Compute what is left, together with the other processes.

    Args:
        work: what to compute.
        store: where it goes.
        num_workers: processes that read photographs.
        retry_failed: compute batches with photographs that failed once more.
        progress: show it on standard error.
        stop: asked before each batch; when it says so, what is in flight is finished. Of several processes the others take over, but for
            process 0, without which they cannot be: it stops them too.
    """
    start, computed, program = time.perf_counter(), 0, None
    stop = _shared(stop, store)
    pending_of, stopped = partial(store.pending, retry_failed), False
    while True:
        pending, members = agree(pending_of)
        pending_of = store.pending
        stopped = bool(pending) and stop()
        if not pending or stopped:
            break
        mine = pending[members.index(jax.process_index()) :: len(members)]
        if mine:
            program = program or work.compile()
            left, share = (sum(_length(store, batch) for batch in batches) for batches in (pending, mine))
            done = store.layout.count - left
            with Progress(store.layout.count, done, share, progress, jax.process_index()) as shown:
                _compute(work, program, store, mine, num_workers, shown, stop)
                computed += shown.computed
        stopped = stop()
        if stopped:  # without the others, who may have far to go
            break
    status = store.status()
    explained, failed = (int(np.sum(status == value)) for value in (EXPLAINED, FAILED))
    seconds = round(time.perf_counter() - start, 3)
    return Outcome(len(status), explained, failed, computed, seconds, stopped=stopped or explained + failed < len(status))


def _shared(stop: Callable[[], bool], store: Store) -> Callable[[], bool]:
    """`stop`, or that process 0 told us so."""
    if jax.process_count() == 1:
        return stop
    if jax.process_index() > 0:
        return lambda: stop() or store.stop_told()
    store.tell_stop(False)  # of an earlier run; before the others begin, for all wait for each other first

    def stop_all() -> bool:
        stopped = stop()
        if stopped:
            store.tell_stop(True)
        return stopped

    return stop_all


def _length(store: Store, batch: int) -> int:
    rows = store.rows(batch)
    return rows.stop - rows.start


def _compute(
    work: Work, program: Program, store: Store, batches: Sequence[int], num_workers: int, progress: Progress, stop: Callable[[], bool]
) -> None:
    due = np.concatenate([np.arange(store.layout.count)[store.rows(batch)] for batch in batches])
    reading = dataclasses.replace(work.reading, due=due)
    started: tuple[int, Mapping[str, np.ndarray], Any] | None = None
    with read(reading, store.layout.batch_size, num_workers) as photographs, _Writer(store) as writer:
        for batch, content in zip(batches, photographs, strict=True):
            numbers = content["index"]
            arrays = program(content["image"], numbers, work.targets[numbers])
            if started is not None:
                _finish(*started, work, writer, progress)
            started = batch, content, arrays
            if stop():
                break
        if started is not None:
            _finish(*started, work, writer, progress)


def _finish(batch: int, content: Mapping[str, np.ndarray], arrays: Any, work: Work, writer: "_Writer", progress: Progress) -> None:
    """Wait for a batch and hand it to the writer."""
    values = {name: np.array(value)[: len(content["index"])] for name, value in jax.device_get(arrays).items()}
    reasons = [as_text(row) for row in content["reason"]]
    for row, reason in enumerate(reasons):
        finite = all(np.isfinite(values[name][row]).all() for name in ("maps", "logit"))
        reasons[row] = reason or ("" if finite else "the model's logits or the map are not finite")
    failed = np.array([bool(reason) for reason in reasons])
    for name, value in values.items():
        value[failed] = -1 if name == "target" else np.nan
    names = [work.photographs.names[int(index)] for index in content["index"]]
    values["name"] = np.stack([as_bytes(name, writer.store.layout.name_bytes) for name in names])
    values["reason"] = np.stack([as_bytes(reason, REASON_BYTES) for reason in reasons])
    values["status"] = np.where(failed, FAILED, EXPLAINED).astype(np.uint8)
    writer.put(batch, _keep_explained(batch, values, failed, writer.store))
    progress.add(batch, len(names), int(failed.sum()))


def _keep_explained(batch: int, values: dict[str, np.ndarray], failed: np.ndarray, store: Store) -> dict[str, np.ndarray]:
    """The values, but for photographs that failed now and were explained before (in a retry of others): what the store has of those."""
    if not failed.any():
        return values
    before = store.read(batch)
    lost = failed & (before["status"] == EXPLAINED)
    return {name: np.where(lost.reshape(-1, *[1] * (value.ndim - 1)), before[name], value) for name, value in values.items()}


class _Writer:
    """Writes in a thread of its own; errors come up with the next batch."""

    def __init__(self, store: Store):
        self.store = store
        self.thread = ThreadPoolExecutor(1, "store")
        self.futures: collections.deque[Future[None]] = collections.deque()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            while kind is None and self.futures:
                self.futures.popleft().result()
        finally:
            self.thread.shutdown(cancel_futures=True)

    def put(self, batch: int, values: Mapping[str, np.ndarray]) -> None:
        while len(self.futures) >= _IN_FLIGHT:
            self.futures.popleft().result()
        self.futures.append(self.thread.submit(self.store.write, batch, values))
