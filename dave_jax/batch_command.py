"""The command `dave-jax batch`: every photograph of a data set into a store of maps."""

import contextlib
import dataclasses
import json
import os
import signal
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import jax

from dave_jax.attribution.methods import available, lookup
from dave_jax.batch.dataset import execute, prepare
from dave_jax.batch.extras import need
from dave_jax.batch.plan import plan
from dave_jax.batch.processes import connect, leave
from dave_jax.batch.run import Outcome
from dave_jax.commands import configure, load_model

STOPPED = 128 + signal.SIGTERM
"""The exit code of a run that SIGTERM ended."""


def batch(arguments: Namespace) -> int:
    """Explain a data set, or print how that would go."""
    for package in ("grain", "tensorstore"):
        need(package)  # before a model is downloaded for nothing
    places = (arguments.coordinator, arguments.processes, arguments.process)
    if arguments.distributed or any(place is not None for place in places):
        connect(*places, arguments.heartbeat)
    try:
        with _stop_on_sigterm() as stop:
            return _run(arguments, stop)
    finally:
        leave()


def _run(arguments: Namespace, stop: Callable[[], bool]) -> int:
    method = lookup("method", arguments.method, available())  # before a model is downloaded for nothing
    model = load_model(arguments)
    job = prepare(
        model,
        arguments.source,
        arguments.output,
        key=jax.random.key(arguments.seed),
        targets=arguments.target or ([str(i) for i in range(len(arguments.prompt))] if arguments.prompt else "top-1"),
        method=configure(method, model.config, arguments),
        dtype=arguments.dtype,
        batch_size=arguments.batch_size,
    )
    if arguments.dry_run:
        found = plan(job)
        print(json.dumps(found, indent=2) if arguments.json else "\n".join(f"{name}: {value}" for name, value in found.items()))
        return 0
    outcome = execute(job, num_workers=arguments.workers, retry_failed=arguments.retry_failed, progress=not arguments.json, stop=stop)
    if arguments.json:
        print(json.dumps({"store": arguments.output, "process": jax.process_index()} | dataclasses.asdict(outcome), indent=2))
    else:
        print(_as_text(outcome, arguments.output))
    return STOPPED if outcome.stopped else 0 if outcome.explained else 2


def _as_text(outcome: Outcome, place: str) -> str:
    lines = [f"{outcome.explained} of {outcome.images} photographs explained, {outcome.computed} of them now, in {outcome.seconds:.1f} s"]
    if outcome.failed:
        lines.append(f"{outcome.failed} could not be: dave_jax.open_maps({place!r}).reasons says why; --retry-failed tries again")
    lines.append("stopped; the same command goes on" if outcome.stopped else f"wrote {place}")
    return "\n".join(lines)


@contextlib.contextmanager
def _stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM has come, which then does not end the process."""
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return

    def note(*_: Any) -> None:
        came.set()
        os.write(2, b"SIGTERM: finishing the batches in flight\n")  # not print, which may not interrupt a print

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
