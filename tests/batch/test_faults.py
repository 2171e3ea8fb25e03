"""Runs in processes of their own: devices, several processes, signals, workers that die, a disk that is full."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dave_jax as dave

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import faults

pytestmark = pytest.mark.slow
COUNT, SAMPLES = 20, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and twenty photographs, one broken; `one.zarr` has the maps from one device."""
    folder = tmp_path_factory.mktemp("faults")
    faults.make_data(folder, COUNT)
    assert faults.Process(folder, str(folder / "one.zarr"), SAMPLES, "--workers=1").finish() == 0
    return folder


def maps_of(store: Path) -> np.ndarray:
    return np.asarray(dave.open_maps(store).arrays["maps"])


def assert_same_maps(folder: Path, store: str) -> None:
    np.testing.assert_array_equal(dave.open_maps(folder / store).status, dave.open_maps(folder / "one.zarr").status)
    np.testing.assert_allclose(maps_of(folder / store), maps_of(folder / "one.zarr"), atol=1e-5)


def test_eight_devices_give_the_maps_of_one(folder):
    assert faults.Process(folder, str(folder / "eight.zarr"), SAMPLES, "--workers=0", devices=8).finish() == 0
    assert_same_maps(folder, "eight.zarr")


def test_two_processes_write_one_store_with_the_maps_of_one(folder):
    both = faults.pair(folder, folder / "two.zarr", SAMPLES)
    assert [process.finish() for process in both] == [0, 0]
    assert all(process.batches for process in both) and sum(process.batches for process in both) == COUNT // faults.BATCH
    assert_same_maps(folder, "two.zarr")


def test_a_store_survives_kills_and_the_death_of_one_of_two_processes():
    result = faults.main(["--images", "40", "--kills", "3", "--pairs", "2"])
    assert result["passed"]
    assert result["two_processes"][0]["killed"] == 1 and result["two_processes"][0]["exit"] == [0]  # process 0 did the other's share


def test_sigterm_finishes_what_is_in_flight(folder):
    store = folder / "stopped.zarr"
    process = faults.Process(folder, str(store), 1024, "--workers=1")
    assert process.wait_for(1)
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(timeout=120) == 128 + signal.SIGTERM
    assert "the same command goes on" in process.text()
    done = int((dave.open_maps(store).status > 0).sum())
    assert done == faults.BATCH * process.batches < COUNT
    assert faults.Process(folder, str(store), 1024, "--workers=1").finish() == 0
    assert (dave.open_maps(store).status > 0).all()


def test_sigterm_to_process_0_ends_all_with_a_store_that_goes_on(tmp_path):
    """The others cannot be without it."""
    faults.make_data(tmp_path, 3 * COUNT)
    store = tmp_path / "first.zarr"
    both = faults.pair(tmp_path, store, 1024)
    assert both[0].wait_for(1)
    both[0].process.send_signal(signal.SIGTERM)
    codes = [process.process.wait(timeout=300) for process in both]
    assert codes == [128 + signal.SIGTERM] * 2, both[0].text() + both[1].text()
    assert all("the same command goes on" in process.text() and "Traceback" not in process.text() for process in both)
    assert not dave.open_maps(store).status.all()
    assert [process.finish() for process in faults.pair(tmp_path, store, 1024)] == [0, 0]
    assert dave.open_maps(store).status.all() and not (store / "stop").exists()


def children(pid: int) -> list[int]:
    found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for ones in found for child in ones]


def test_a_worker_that_dies_ends_the_run_with_advice(folder):
    process = faults.Process(folder, str(folder / "worker.zarr"), 1024, "--workers=1")
    end = time.monotonic() + 120
    victims: list[int] = []
    while not victims and time.monotonic() < end and process.process.poll() is None:
        for child in children(process.process.pid):
            victims += [child] if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text() else []
        time.sleep(0.01)
    os.kill(victims[0], signal.SIGKILL)
    assert process.process.wait(timeout=120) == 2
    assert "A worker process that reads photographs died" in process.text() and "Traceback" not in process.text()
    assert faults.Process(folder, str(folder / "worker.zarr"), 1024, "--workers=0").finish() == 0


def test_a_full_disk_ends_the_run_with_advice_and_leaves_a_resumable_store(folder):
    """The limit of a file's size stands for it."""
    arguments = ["batch", str(folder / "photos"), "--model", str(folder / "model"), "-o", str(folder / "full.zarr")]
    arguments += [f"--samples={SAMPLES}", f"--batch-size={faults.BATCH}", "--workers=0", "--no-cache"]
    program = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
    program += "from dave_jax.cli import main\nraise SystemExit(main())"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-c", program, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert found.returncode == 2
    assert "Make room" in found.stderr and "same command again" in found.stderr and "Traceback" not in found.stderr
    assert faults.Process(folder, str(folder / "full.zarr"), SAMPLES, "--workers=0").finish() == 0
    assert faults.files(folder / "full.zarr") == faults.files(folder / "one.zarr")


def test_the_second_start_finds_the_compiled_program(folder):
    """By default in the user's cache folder."""
    environment = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    command = [sys.executable, "-m", "dave_jax", "batch", str(folder / "photos"), "--model", str(folder / "model"), "--samples=4"]
    command += ["--dry-run", "--json", "-o", str(folder / "plan.zarr")]
    logs = {"JAX_DEBUG_LOG_MODULES": "jax._src.compiler"}
    hits = []
    for options in (["--no-cache"], [], []):
        assert (folder / "dave_jax" / "compiled").exists() == (len(hits) == 2)
        settings = environment | logs | {"XDG_CACHE_HOME": str(folder)}
        found = subprocess.run([*command, *options], env=settings, check=True, capture_output=True, text=True)
        assert json.loads(found.stdout)["seconds_to_compile"] > 0
        hits.append("ersistent compilation cache hit for 'jit__explain_batch'" in found.stderr)
    assert hits == [False, False, True]
