"""What a benchmark's numbers depend on: machine, versions, commit, date; written beside them."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


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
    """The machine, the load on it, the versions of these packages, the commit (and whether files had changed since) and the date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in packages},
        "commit": _git("rev-parse", "HEAD"),
        "changed_since_commit": bool(_git("status", "--porcelain")),
    }


def write(folder: Path, name: str, result: dict[str, Any]) -> Path:
    """Write the result as JSON, its date in the name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_{result['context']['date'].replace(':', '')[:17]}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
