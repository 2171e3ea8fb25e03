"""Strict numerics for every test: no silent promotion of types or ranks; warnings are errors (pyproject)."""

import os
import shutil
from importlib.metadata import version
from pathlib import Path

# Two devices. Nearly all the time goes into compiling small programs that run once: it halves with XLA's older emitters, and is a third
# less again without the optimiser. Without fused multiply-adds (processors up to AVX have none) programs of different shapes round alike.
# .ci/run repeats the comparisons with the recordings as users compile.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=2 --xla_cpu_max_isa=AVX"
    # From jaxlib 0.11.2 there are the newer emitters alone, and this flag ends the process.
    + (" --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""),
)
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")  # the command line keeps programs in the user's folder

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="module", autouse=True)
def bounded_mappings():
    """A worker compiles more programs than a process may hold."""
    yield
    from dave_jax.evaluation.run import forget_programs  # here, for it imports what the hooks of type checks must see first

    forget_programs()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings, photographs and models beside the project; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data beside the project ({SHARED.name}/), which is not part of it")
    return SHARED


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (the extra `browser`)")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield
