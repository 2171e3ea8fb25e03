"""How long until the first map? Tracing and compiling `explain`, with an empty cache of compiled programs and with a full one.

    python benchmarks/startup.py --output benchmarks/results

A random ViT-S/16 and ViT-B/16 at 224 pixels. Each start is a process of its own: the first call of `explain`, less what a later call takes.
The cache is JAX's (`JAX_COMPILATION_CACHE_DIR`); both starts must give the same map.

Then the command line, with the embedded model and its cache: all of `dave-jax explain PHOTO --samples 8`, from the start of Python to its
end, with `--no-cache`, with an empty cache and with a full one. These too must give the same map.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from context import ROOT, context, report


class Disagreement(RuntimeError):
    """The second start gives another map than the first: nothing is reported."""


def start(size: str, samples: int) -> dict[str, Any]:
    """What a new process does."""
    import jax
    import numpy as np
    from sample_cost import Case

    case = Case.build(size, samples, None)
    jax.block_until_ready(case.model.params)
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        heat = jax.block_until_ready(case.explain())
        seconds.append(time.perf_counter() - begun)
    return {"first": seconds[0], "later": seconds[1], "map": hashlib.sha256(np.asarray(heat).tobytes()).hexdigest()}


def run(size: str, samples: int, cache: str) -> dict[str, Any]:
    """`start` in a process of its own."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, __file__, "--models", size, "--samples", str(samples), "--child"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a start failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def command(samples: int) -> dict[str, dict[str, float]]:
    """Seconds of a whole `dave-jax explain`, by the clock and of the processor, by what the cache holds."""
    import numpy as np

    photo = ROOT / "dave_jax" / "assets" / "photos" / "golf_ball.jpg"
    seconds, maps = {}, []
    with tempfile.TemporaryDirectory() as place:
        environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
        environment |= {"XDG_CACHE_HOME": place, "JAX_ENABLE_COMPILATION_CACHE": "true"}
        program = [sys.executable, "-m", "dave_jax", "explain", str(photo), "--samples", str(samples), "-o", place]
        for name, options in (("none", ["--no-cache"]), ("empty", []), ("full", [])):
            begun, worked = time.perf_counter(), _worked()
            done = subprocess.run([*program, *options], env=environment, capture_output=True, text=True, check=False)
            seconds[name] = {"clock": time.perf_counter() - begun, "processor": _worked() - worked}
            if done.returncode:
                raise RuntimeError(f"dave-jax explain failed:\n{done.stderr[-2000:]}")
            maps.append(np.load(Path(place) / f"{photo.stem}.npz")["map"])
    if not all(np.array_equal(maps[0], other) for other in maps):
        raise Disagreement("The command's maps differ from start to start.")
    return seconds


def _worked() -> float:
    """Seconds that the processor has worked for processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", default="small,base", help="small, base or test")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--only-explain", action="store_true", help="not the command line")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        found = start(given.models, given.samples)
        print(json.dumps(found))
        return found
    before, models = context("dave-jax", "jax", "jaxlib"), {}
    print("| model | cache | seconds of the first call above a later one |\n| --- | --- | ---: |")
    for size in given.models.split(","):
        with tempfile.TemporaryDirectory() as cache:
            rows = {name: run(size, given.samples, cache) for name in ("empty", "full")}
        if rows["empty"]["map"] != rows["full"]["map"]:
            raise Disagreement(f"{size}: the map of the second start differs from the first's.")
        models[size] = rows
        for name, row in rows.items():
            print(f"| {size} | {name} | {row['first'] - row['later']:.2f} |", flush=True)
    found = {} if given.only_explain else command(given.samples)
    print("\n| `dave-jax explain`, cache | seconds from start to end | of the processor |\n| --- | ---: | ---: |")
    print("\n".join(f"| {name} | {row['clock']:.2f} | {row['processor']:.2f} |" for name, row in found.items()), flush=True)
    return report("startup", before, given, {"models": models, "command": found})


if __name__ == "__main__":
    main()
