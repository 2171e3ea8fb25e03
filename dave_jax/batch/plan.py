"""What a run would do, without doing it."""

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from dave_jax.batch.dataset import Job
from dave_jax.batch.reading import read
from dave_jax.batch.store import Store


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
    run = job.attributes["run"]
    settings = run.get("config") or run["settings"]
    amounts = {name: settings.get(field) for name, field in (("samples", "num_samples"), ("chunk", "chunk_size"))}
    maps = count * job.layout.num_targets * int(np.prod(job.layout.image_size)) * np.dtype(job.layout.dtype).itemsize
    return {
        "source": run["data"],
        "images": count,
        "processes": jax.process_count(),
        "devices": [f"{len(devices)} x {devices[0].device_kind}", f"{jax.device_count()} in all"],
        "batch_size": size,
        "batches": store.num_batches,
        "batches_left": len(pending),
        "method": run["method"],
        **{name: amount for name, amount in amounts.items() if amount is not None},
        "bytes_per_device": program.memory,
        "bytes_of_maps": maps,
        "seconds_to_compile": round(compiled - start, 2),
        "seconds_per_batch": round(seconds, 4),
        "seconds_left": round(compiled - start + seconds * -(-len(pending) // jax.process_count()), 1),
    }
