"""Several processes, one data set: they agree on what is left, share it out, and take over from one that dies.

Process 0 holds JAX's coordination service: when it dies, JAX ends the others, and the same command goes on with the store.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

T = TypeVar("T")

GRACE = 300
"""Seconds that process 0 waits for the others to leave, so that its end is not theirs: longer than a batch takes."""


def connect(coordinator: str | None, num_processes: int | None, process: int | None, heartbeat: int) -> None:
    """Join the other processes; before JAX is used.

    Args:
        coordinator: `host:port` of process 0; None where JAX finds it (TPU pod slices, Slurm, Open MPI, Kubernetes).
        num_processes: of the run; None likewise.
        process: the number of this one; None likewise.
        heartbeat: seconds until a silent process counts as dead.

    Raises:
        ConnectionError: the processes do not find each other.
    """
    jax.config.update("jax_enable_recoverability", True)  # or a process that dies takes the others with it
    try:
        jax.distributed.initialize(coordinator, num_processes, process, heartbeat_timeout_seconds=heartbeat)
    except (RuntimeError, ValueError) as error:
        raise ConnectionError(
            f"The processes do not find each other: {error} Start all of them with the same --coordinator HOST:PORT and --processes N, "
            "each with its --process I; on TPU pod slices, Slurm and Open MPI --distributed alone does."
        ) from error


def agree(read: Callable[[], T]) -> tuple[T, list[int]]:
    """What `read` returns while all processes wait for each other, and which processes there are; waits for the slowest."""
    if jax.process_count() == 1:
        return read(), [0]
    while True:
        with contextlib.suppress(multihost_utils.ProcessFailureError):  # of one that died while it computed
            with multihost_utils.live_devices(jax.devices()):
                pass  # all wait for each other where such a block ends, not where it begins
        try:
            with multihost_utils.live_devices(jax.devices()) as live:
                found = read()
        except multihost_utils.ProcessFailureError:  # one died just now; those that are left ask again
            continue
        return found, sorted({device.process_index for device in live})


def leave() -> None:
    """End together: process 0, which the others depend on, last."""
    if jax.process_count() == 1:
        return
    if jax.process_index() == 0:
        waiting = threading.Thread(target=_wait_for_others, daemon=True)
        waiting.start()
        waiting.join(GRACE)
    jax.distributed.shutdown()


def _wait_for_others() -> None:
    members = [0, 1]
    while len(members) > 1:
        _, members = agree(lambda: None)
