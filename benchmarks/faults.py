"""`dave-jax batch` under kill -9: is the finished store that of an undisturbed run?

    python benchmarks/faults.py --output benchmarks/results

A tiny random model explains 300 small photographs, six of them broken, in batches of four. First undisturbed. Then the process is killed at
random moments, while it starts or computes, and started again with the same command, until it has been killed 30 times and is let finish.
Then two processes of four host devices each, joined over loopback: one of the two is killed; process 0 takes over the work of process 1,
and where process 0 dies, both start again. Stores are compared file by file, byte by byte.
"""

import argparse
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from context import context, report
from PIL import Image

import dave_jax as dave

BATCH = 4
IN_FLIGHT = 2
"""Batches that may be computed and not yet stored."""

TOLERANCE = 1e-5
"""Between maps on one device and on eight, of the median image: programs round differently, and `mad_mean` has a threshold."""


def make_data(folder: Path, count: int) -> None:
    """A model and small photographs; every fiftieth is broken."""
    dave.save(dave.testing.tiny_model(), folder / "model")
    (folder / "photos").mkdir()
    generator = np.random.default_rng(0)
    for i in range(count):
        path = folder / "photos" / f"{i:04}.png"
        Image.fromarray(generator.integers(0, 256, (24, 24, 3), np.uint8)).save(path)
        if i % 50 == 7:
            path.write_bytes(path.read_bytes()[:100])


class Process:
    """A process of `dave-jax batch`, and the lines that it prints."""

    def __init__(self, folder: Path, store: str, samples: int, *options: str, devices: int = 1):
        command = [sys.executable, "-m", "dave_jax", "batch", str(folder / "photos"), "--model", str(folder / "model"), "-o", store]
        command += [f"--batch-size={BATCH}", f"--samples={samples}", *options]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "FAULTS_MARK": str(folder),
        }
        self.log = folder / f"{time.monotonic_ns()}.log"
        with self.log.open("w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=folder)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def batches(self) -> int:
        """Computed so far."""
        return self.text().count('"batch"')

    def wait_for(self, batches: int, timeout: float = 300) -> bool:
        """Wait until so many batches are computed; whether the process still runs."""
        end = time.monotonic() + timeout
        while self.process.poll() is None and self.batches < batches:
            if time.monotonic() > end:
                self.process.kill()
                raise RuntimeError(f"No progress in {timeout:g} s:\n{self.text()}")
            time.sleep(0.01)
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def finish(self) -> int:
        code = self.process.wait(timeout=900)
        if code:
            print(self.text()[-3000:], file=sys.stderr)
        return code


def files(store: Path) -> dict[str, str]:
    """A hash of every file in a store."""
    return {
        path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in store.rglob("*") if path.is_file()
    }


def left_behind(folder: Path) -> int:
    """Processes of ours that still run."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found += f"FAULTS_MARK={folder}\0".encode() in (process / "environ").read_bytes() + b"\0"
        except OSError:
            continue
    return found


def one_process(folder: Path, samples: int, kills: int, draw: random.Random, expected: dict[str, str]) -> dict[str, Any]:
    """Kill and start again; where a run ends before it is killed, begin a new one."""
    stores = [folder / "killed-0.zarr"]
    done, computed, at_start, code = 0, 0, 0, 0
    while done < kills:
        process = Process(folder, str(stores[-1]), samples, f"--workers={draw.choice([0, 1])}")
        if draw.random() < 0.25:
            time.sleep(draw.uniform(0.0, 4.0))
        else:
            process.wait_for(draw.choice([1, 1, 2, 3]))
            time.sleep(draw.uniform(0.0, 0.2))
        ended = process.process.poll()
        process.kill()
        computed += process.batches
        if ended is None:
            done, at_start = done + 1, at_start + (process.batches == 0)
        else:
            code = code or ended
            stores.append(folder / f"killed-{len(stores)}.zarr")
    last = Process(folder, str(stores[-1]), samples, "--workers=1")
    code = last.finish() or code
    computed += last.batches
    again = computed - len(stores) * -(-len(list((folder / "photos").iterdir())) // BATCH)
    time.sleep(2)
    return {
        "kills": done,
        "before_the_first_batch": at_start,
        "runs": len(stores),
        "exit": code,
        "identical": all(files(store) == expected for store in stores),
        "batches_computed_again": again,
        "processes_left_behind": left_behind(folder),
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def pair(folder: Path, store: Path, samples: int) -> tuple[Process, Process]:
    """Two processes of four devices."""
    common = ["--workers=0", "--heartbeat=10", f"--coordinator=127.0.0.1:{free_port()}", "--processes=2"]
    first, second = (Process(folder, str(store), samples, *common, f"--process={i}", devices=4) for i in range(2))
    return first, second


def two_processes(folder: Path, samples: int, victim: int, draw: random.Random, expected: dict[str, str]) -> dict[str, Any]:
    """Kill one of two."""
    store = folder / f"victim{victim}-{draw.random()}.zarr"
    both = pair(folder, store, samples)
    both[victim].wait_for(draw.randint(1, 12))
    both[victim].kill()
    codes = [both[1 - victim].process.wait(timeout=900)]
    stored = int((dave.open_maps(store).status > 0).sum())
    if victim == 0:  # it held the coordination service: JAX has ended the other
        codes += [process.finish() for process in pair(folder, store, samples)]
    return {"killed": victim, "exit": codes, "stored_by_then": stored, "identical": files(store) == expected}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run, compare, print and write; returns what is written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--kills", type=int, default=30, help="of a single process")
    parser.add_argument("--pairs", type=int, default=4, help="runs of two processes of which one is killed, by turns")
    parser.add_argument("--samples", type=int, default=1024, help="so many that a batch takes a while")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="folder for the result as JSON")
    options = parser.parse_args(arguments)
    draw, before = random.Random(options.seed), context("dave-jax", "jax", "grain", "tensorstore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, options.images)
        if Process(folder, str(folder / "one.zarr"), options.samples).finish():
            raise RuntimeError("The undisturbed run failed.")
        alone = one_process(folder, options.samples, options.kills, draw, files(folder / "one.zarr"))
        print(json.dumps(alone), flush=True)
        together, difference = [], None
        if options.pairs:
            if any(process.finish() for process in pair(folder, folder / "two.zarr", options.samples)):
                raise RuntimeError("The undisturbed run of two processes failed.")
            one, two = (np.asarray(dave.open_maps(folder / f"{name}.zarr").arrays["maps"]) for name in ("one", "two"))
            differences = np.nanmax(np.nan_to_num(np.abs(one - two)), axis=(1, 2, 3))
            difference = {"median": float(np.median(differences)), "largest": float(differences.max())}
            difference["images_beyond_tolerance"] = int((differences > TOLERANCE).sum())
            for i in range(options.pairs):
                together.append(two_processes(folder, options.samples, 1 - i % 2, draw, files(folder / "two.zarr")))
                print(json.dumps(together[-1]), flush=True)
    identical = alone["identical"] and all(one["identical"] for one in together)
    bounded = alone["batches_computed_again"] <= IN_FLIGHT * alone["kills"]
    close = difference is None or difference["median"] <= TOLERANCE
    found = {
        "one_process": alone,
        "two_processes": together,
        "difference_one_and_eight_devices": difference,
        "passed": identical and bounded and close and not alone["processes_left_behind"],
    }
    print(
        f"{options.images} images, {alone['kills']} kills: store {'identical' if alone['identical'] else 'DIFFERENT'}, "
        f"{alone['batches_computed_again']} batches of {BATCH} computed again, {alone['processes_left_behind']} processes left behind"
    )
    if together:
        same = sum(one["identical"] for one in together)
        print(f"one of two processes killed: {same} of {len(together)} stores identical; 1 device against 8: {difference}")
    return report("faults", before, options, found)


if __name__ == "__main__":
    sys.exit(not main()["passed"])
