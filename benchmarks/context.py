"""What a benchmark's numbers depend on: machine, versions, commit, date; written beside them."""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ("GLIBC_TUNABLES", "JAX_PLATFORMS", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS", "XLA_FLAGS")
"""Variables that change what is measured."""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def context(*packages: str) -> dict[str, Any]:
    """The machine, its load and environment, the versions of these packages, the commit (and whether files changed since) and the date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in packages},
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "commit": _git("rev-parse", "HEAD"),
        "changed_since_commit": bool(_git("status", "--porcelain")),
    }


def report(benchmark: str, before: dict[str, Any], given: argparse.Namespace, found: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """What a benchmark found, with the `context` before it and its settings: all its options, and what it made of them.

    With `--output` it is also written as JSON into that folder, the date in the name.
    """
    options = {name: value for name, value in vars(given).items() if name != "output"}
    options = {name: os.path.relpath(value, ROOT) if isinstance(value, Path) else value for name, value in options.items()}
    context = before | {"device": jax.devices()[0].device_kind}
    result = {"benchmark": benchmark, "context": context, "settings": options | settings, **found}
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
        path = given.output / f"{benchmark}_{before['date'].replace(':', '')[:17]}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written to {path}")
    return result
