"""A process that builds one side of a comparison, keeps it, and runs its methods on request, timed and with its peak memory."""

import contextlib
import ctypes
import dataclasses
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a call returned, its seconds, and the process's memory in MiB: before the call and at the most during it."""

    result: Any
    seconds: float
    memory_before: float
    memory_peak: float


def _memory(field: str) -> float:
    """A line of this process's status in MiB: VmRSS now, VmHWM the most since `_forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _forget_peak() -> None:
    """Give freed memory back to the system, so that none of it hides what the next call takes, and start the peak from here."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _serve(build: Callable[[Any], Any], job: Any, threads: int, trim: bool, connection) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # XLA takes as many threads as there are cores to use
    os.environ["OMP_NUM_THREADS"] = str(threads)
    side = None
    while True:
        try:
            method = connection.recv()
        except EOFError:  # nobody asks any more
            return
        try:
            if trim:
                _forget_peak()
            before, start = _memory("VmRSS"), time.perf_counter()
            if side is None:
                side, result = build(job), None
            else:
                result = getattr(side, method)()
            connection.send(Measured(result, time.perf_counter() - start, before, _memory("VmHWM")))
        except Exception:
            connection.send(traceback.format_exc())


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """With these variables, which a process that is started meanwhile inherits."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Worker:
    """`with Worker(Side, job, threads=2) as worker: worker("method")` calls a method of `Side(job)` in another process.

    `environment` is set where the process starts. `trim` gives freed memory back before each call, which tells its peak, and makes the
    call take it anew.
    """

    def __init__(
        self, build: Callable[[Any], Any], job: Any, *, threads: int, environment: dict[str, str] | None = None, trim: bool = True
    ):
        spawning = multiprocessing.get_context("spawn")
        self.connection, theirs = spawning.Pipe()
        self.process = spawning.Process(target=_serve, args=(build, job, threads, trim, theirs), daemon=True)
        with _environment(environment or {}):
            self.process.start()
        theirs.close()
        self("build")

    def __call__(self, method: str) -> Measured:
        self.connection.send(method)
        try:
            reply = self.connection.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(f"the worker died in {method}, exit code {self.process.exitcode}") from None
        if not isinstance(reply, Measured):
            raise RuntimeError(f"the worker failed in {method}:\n{reply}")
        return reply

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.connection.close()
        self.process.join()
