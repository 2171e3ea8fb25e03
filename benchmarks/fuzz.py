"""What do broken files do? Photographs, safetensors, configurations, tables and archives, mutated at random, in processes of their own.

    python benchmarks/fuzz.py --output benchmarks/results
    python benchmarks/fuzz.py --kinds photographs,config --cases 10000 --output benchmarks/results

Hypothesis draws the cases (`fuzz_kinds.py` lists them). Each must end in a clear error, one of ValueError, TypeError and OSError
whose message names the file, or in a right answer. A child process reads a few hundred, with a limit to its address space, and writes each
case down before it reads it: where a child dies, or is silent for too long, the case is known, and another goes on with the next ones.
"""

import argparse
import collections
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from context import context, report

KINDS = ("photographs", "tables", "archives", "safetensors", "config")

PER_CHILD = 500
"""Cases of a process: compiled programs and caches of so many fit in its memory."""


def child(name: str, seed: int, cases: int, folder: Path, limit: int) -> None:
    """Read cases, a line of JSON for each on standard output: outcome and seconds; at the end the peak of memory above the start's."""
    from fuzz_cases import Case, outcome
    from fuzz_kinds import kinds
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    (folder / "models").mkdir(exist_ok=True)
    (folder / "case").mkdir(exist_ok=True)
    kind = kinds([name], folder / "models")[name]
    warnings.simplefilter("ignore")  # what Pillow warns of is an error or an answer in the end
    outcome(kind, folder / "case", next_valid(kind))  # imports and compiles what all need
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    last = folder / "last"

    @seeded(seed)
    @settings(max_examples=cases, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(kind.cases)
    def each(case: Case) -> None:
        last.mkdir(exist_ok=True)
        for file in last.iterdir():
            file.unlink()
        for file, content in case.files.items():
            (last / file).write_bytes(content)
        begun = time.perf_counter()
        found = outcome(kind, folder / "case", case)
        print(json.dumps({"outcome": found, "seconds": time.perf_counter() - begun, "seed": case.seed}), flush=True)
        if found.startswith("WRONG"):
            keep(last, folder / "wrong")

    each()
    print(json.dumps({"peak": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}), flush=True)


def next_valid(kind: Any) -> Any:
    """Any case; of a fixed seed."""
    from hypothesis import Phase, given, settings

    found = []
    settings(max_examples=1, database=None, phases=[Phase.generate], derandomize=True)(given(kind.cases)(lambda case: found.append(case)))()
    return found[0]


def keep(case: Path, place: Path) -> None:
    """Copy the files of a case that went wrong, of the first hundred."""
    number = len(list(place.iterdir())) if place.is_dir() else 0
    if number < 100:
        (place / str(number)).mkdir(parents=True)
        for file in case.iterdir():
            (place / str(number) / file.name).write_bytes(file.read_bytes())


def run(name: str, cases: int, seed: int, seconds: float, limit: int, wrong: Path) -> dict[str, Any]:
    """So many cases of a kind, in as many processes as it takes."""
    outcomes: collections.Counter[str] = collections.Counter()
    slowest, peak, problems, done = (0.0, ""), 0, [], 0
    while done < cases:
        seed += 1
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            count = min(PER_CHILD, cases - done)
            command = [
                sys.executable,
                __file__,
                "--child",
                name,
                "--seed",
                str(seed),
                "--cases",
                str(count),
                "--folder",
                place,
                "--limit",
                str(limit),
            ]
            with (folder / "errors").open("w") as errors, (folder / "lines").open("w") as lines:
                process = subprocess.Popen(command, stdout=lines, stderr=errors)
            seen, heard, hung = 0, time.monotonic() + 600.0, False  # to begin with, it imports and compiles
            while process.poll() is None:
                time.sleep(0.2)
                size = (folder / "lines").stat().st_size
                if size != seen:
                    seen, heard = size, time.monotonic() + seconds
                elif time.monotonic() > heard:
                    hung = True
                    process.kill()
                    process.wait()
            for line in (folder / "lines").read_text().splitlines():
                found = json.loads(line)
                if "peak" in found:
                    peak = max(peak, found["peak"])
                    continue
                done += 1
                short = "WRONG" if found["outcome"].startswith("WRONG") else found["outcome"]
                outcomes[short] += 1
                slowest = max(slowest, (found["seconds"], found["seed"]))
                if short == "WRONG":
                    problems.append(f"{found['seed']}: {found['outcome']}")
            if (folder / "wrong").is_dir():
                for case in (folder / "wrong").iterdir():
                    keep(case, wrong / name)
            if not seen:
                raise RuntimeError(f"a process read nothing: {(folder / 'errors').read_text()[-2000:]}")
            if process.returncode:
                text = (folder / "errors").read_text()[-600:]
                outcomes["hang" if hung else "crash"] += 1
                done += 1
                problems.append(f"{'hang' if hung else 'crash'}, exit code {process.returncode}: {text}")
                if (folder / "last").is_dir():
                    keep(folder / "last", wrong / name)
    return {
        "cases": done,
        "outcomes": dict(outcomes.most_common()),
        "slowest_seconds": round(slowest[0], 3),
        "slowest": slowest[1],
        "peak_mib": round(peak / 2**20, 1),
        "problems": dict(collections.Counter(problems).most_common(20)),
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--cases", type=int, default=10_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="a case may take, before it counts as a hang")
    parser.add_argument("--limit", type=int, default=3 * 2**30, help="bytes of address space that cases may add to a process's own")
    parser.add_argument("--wrong", type=Path, default=Path("fuzz-wrong"), help="folder for the cases that went wrong")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        child(given.child, given.seed, given.cases, given.folder, given.limit)
        return {}
    before, found = context("dave-jax", "jax", "pillow", "safetensors", "hypothesis"), {}
    print("| kind | cases | outcomes | slowest, s | peak, MiB |\n| --- | ---: | --- | ---: | ---: |")
    for number, name in enumerate(given.kinds.split(",")):
        row = found[name] = run(name, given.cases, given.seed + 1_000_000 * number, given.seconds, given.limit, given.wrong)
        outcomes = ", ".join(f"{count} {kind}" for kind, count in row["outcomes"].items())
        print(f"| {name} | {row['cases']} | {outcomes} | {row['slowest_seconds']:.2f} | {row['peak_mib']:.0f} |", flush=True)
        for problem, count in row["problems"].items():
            print(f"    {count} x {problem}", flush=True)
    return report("fuzz", before, given, {"kinds": found})


if __name__ == "__main__":
    main()
