"""From photographs to batches of normalised images, by grain: in worker processes, in a fixed order, a broken one with its reason."""

import dataclasses
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import parent_process
from typing import Any

import numpy as np
from jaxtyping import Int

from dave_jax.batch.extras import need
from dave_jax.batch.listing import Photographs, as_bytes
from dave_jax.models.preprocess import Preprocessing

REASON_BYTES = 256
"""Room for the reason why a photograph could not be explained."""

AHEAD = 2
"""Batches that wait to be computed, for each reader."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """A random-access source for grain: number, image and reason of each photograph that is due.

    Attributes:
        photographs: of the whole data set.
        preprocessing: the model's.
        due: which ones.
        unfit: why photographs are not to be read, by number.
    """

    photographs: Photographs
    preprocessing: Preprocessing
    due: Int[np.ndarray, " due"]
    unfit: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.due)

    def __getitem__(self, position: Any) -> dict[str, np.ndarray]:
        index = int(self.due[int(position)])
        image, reason = np.zeros((*self.preprocessing.image_size, 3), np.float32), self.unfit.get(index, "")
        if not reason:
            try:
                image = self.preprocessing(self.photographs.photo(index))[0]
            except Exception as error:  # a damaged file can raise anything in a decoder, and must not stop the run
                reason = as_reason(error)
        return {"index": np.array(index), "image": image, "reason": as_bytes(reason, REASON_BYTES)}


def as_reason(error: Exception) -> str:
    """An error as one line that is the same in every run: without addresses of objects.

    Example:
        >>> as_reason(ValueError("cannot identify <BytesIO object at 0x7f3a>"))
        'cannot identify <BytesIO object>'
    """
    return " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", str(error)).split()) or type(error).__name__


@contextmanager
def read(reading: Reading, batch_size: int, num_workers: int) -> Iterator[Iterator[dict[str, np.ndarray]]]:
    """Batches in the order of `reading.due`: arrays `index`, `image` and `reason`; the last one may be shorter.

    Args:
        reading: what to read.
        batch_size: photographs of a batch.
        num_workers: processes that read; 0 for threads of this one.

    Raises:
        ChildProcessError: a worker process died.
    """
    grain = need("grain")
    threads = 1 if num_workers else min(AHEAD, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, 1 if num_workers else AHEAD))
    batches = grain.MapDataset.source(reading).batch(batch_size).to_iter_dataset(options)
    if num_workers:
        flags = need("absl.flags").FLAGS
        if not flags.is_parsed():
            flags.mark_as_parsed()  # grain's workers ask for flags, which only Abseil's own programs parse
        pipes = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)  # shared memory is short in containers, and stays after a kill
        batches = grain.experimental.WithOptionsIterDataset(batches, pipes)
        workers = grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=1)
        batches = batches.mp_prefetch(workers, worker_init_fn=_start_worker)
    iterator = iter(batches)
    try:
        yield _told(iterator)
    finally:
        iterator.close()


def _told(iterator: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise ChildProcessError(
                f"A worker process that reads photographs died ({str(error).partition('.')[0]}): out of memory, or killed. Start the same "
                "command again, with fewer workers if it recurs: finished batches are kept."
            ) from error
        yield batch


def _start_worker(index: int, count: int) -> None:
    """Signals to the group of processes are the parent's business; a worker ends when its parent does, however that ends."""
    del index, count
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
