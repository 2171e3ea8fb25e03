"""Compiled programs on disk, from one start of the command line to the next."""

import contextlib
import hashlib
import os
import platform
import stat
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

MOST = 2**30
"""Bytes of programs that are kept: those that were used last."""

LEAST_SECONDS = 0.1
"""Of compiling, for a program to be kept."""

_FAILURES = r"Error (reading|writing) persistent compilation cache entry|Cache value for key .* exceeds the maximum cache size"


@contextlib.contextmanager
def keep_compiled(wanted: bool = True) -> Iterator[None]:
    """Keep compiled programs on disk, in `cache_folder` unless JAX is told of a folder (`JAX_COMPILATION_CACHE_DIR`).

    A program that cannot be read or written is compiled. What JAX is told otherwise, by its own settings, stays.

    Args:
        wanted: False neither reads nor writes any.
    """
    told = (
        not getattr(jax.config, "jax_enable_compilation_cache", True) or getattr(jax.config, "jax_compilation_cache_dir", None) is not None
    )
    settings: dict[str, object] = {} if wanted else {"jax_enable_compilation_cache": False}
    if wanted and not told and (folder := cache_folder()) is not None:
        settings = {
            "jax_compilation_cache_dir": str(folder),
            "jax_compilation_cache_max_size": MOST,
            "jax_persistent_cache_min_compile_time_secs": LEAST_SECONDS,
        }
    before = {name: getattr(jax.config, name) for name in settings}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _FAILURES, UserWarning)
        try:
            _configure(settings)
            yield
        finally:
            _configure(before)


def _configure(settings: dict[str, object]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    if settings:
        compilation_cache.reset_cache()  # JAX looks at the settings once


def cache_folder() -> Path | None:
    """The user's folder of compiled programs for this kind of machine, made if it is missing; None if it cannot be or is not safe.

    It lies in `$XDG_CACHE_HOME`, by default `~/.cache` (macOS `~/Library/Caches`, Windows `%LOCALAPPDATA%`). A home may be shared between
    machines, and a program for one processor may crash on another. A compiled program is code: where others may write, nothing is read.
    """
    try:
        folder = _caches() / "dave_jax" / "compiled"
        for path in (folder.parent, folder, folder / _machine()):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(path):
                return None
        folder = folder / _machine()
        for file in folder.glob("*-cache"):  # killed between the two, JAX would keep no program any more
            if not file.with_name(file.name.removesuffix("-cache") + "-atime").exists():
                file.unlink()
        return folder if os.access(folder, os.W_OK | os.X_OK) else None
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None


def _caches() -> Path:
    told = os.environ.get("XDG_CACHE_HOME", "")
    if Path(told).is_absolute():
        return Path(told)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".cache"


def _is_ours(folder: Path) -> bool:
    """Whether nobody else may write there."""
    if not hasattr(os, "geteuid"):
        return True
    found = folder.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _machine() -> str:
    """What tells kinds of processors apart."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    features = next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"
