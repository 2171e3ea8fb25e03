"""Compiled programs on disk: where, for whom, how many; and that nothing of it can fail a run."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from dave_jax import compiled
from dave_jax.cli import main
from dave_jax.compiled import cache_folder, keep_compiled

ROOT = Path(__file__).parents[1]


@pytest.fixture
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def enabled(caches, monkeypatch):
    """As outside the tests, with every program worth keeping."""
    monkeypatch.setattr(compiled, "LEAST_SECONDS", 0.0)
    jax.config.update("jax_enable_compilation_cache", True)
    yield caches
    jax.config.update("jax_enable_compilation_cache", False)  # conftest.py's


def programs(folder: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in folder.rglob("*-cache"))


def compile_one(number: int) -> None:
    def one(x):
        return jnp.sin(x) * number

    assert jax.jit(one)(0.0) == 0.0


def test_the_folder_is_the_users_own(caches, monkeypatch):
    folder = cache_folder()
    assert folder is not None and folder.parent == caches / "dave_jax" / "compiled" and folder.is_dir()
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent, folder.parent.parent)} == {0o700}
    monkeypatch.setenv("HOME", str(caches / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the convention says to ignore
    folder = cache_folder()
    assert folder is not None and folder.is_relative_to(caches / "home")


def test_another_processor_gets_another_folder(caches, monkeypatch):
    own = cache_folder()
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    monkeypatch.setattr("platform.processor", lambda: "another")
    assert cache_folder() != own


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_nothing_is_read_where_others_may_write(caches, mode):
    folder = cache_folder()
    assert folder is not None
    folder.parent.chmod(mode)
    assert cache_folder() is None


def test_there_may_be_no_place(caches, monkeypatch):
    (caches / "dave_jax").write_text("a file")
    assert cache_folder() is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache_folder() is None
    with keep_compiled():
        compile_one(1)


def test_what_a_kill_left_is_removed(caches):
    folder = cache_folder()
    assert folder is not None
    for name in ("half-cache", "whole-cache", "whole-atime"):
        (folder / name).write_bytes(bytes(8))
    cache_folder()
    assert sorted(path.name for path in folder.iterdir()) == ["whole-atime", "whole-cache"]


def test_programs_are_kept_up_to_a_size(enabled, monkeypatch):
    with keep_compiled():
        compile_one(2)
    assert "jit_one" in programs(enabled)
    size = sum(path.stat().st_size for path in enabled.rglob("*-cache"))
    monkeypatch.setattr(compiled, "MOST", size + 100)
    with keep_compiled():
        for number in range(3, 6):
            compile_one(number)
    assert size / 2 < sum(path.stat().st_size for path in enabled.rglob("*-cache")) <= size + 100
    assert jax.config.jax_compilation_cache_dir is None  # as it was


def test_a_folder_that_jax_is_told_of_is_taken(enabled):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(enabled / "told"))
    try:
        with keep_compiled():
            assert jax.config.jax_compilation_cache_dir == str(enabled / "told")
            assert jax.config.jax_compilation_cache_max_size == -1
        with keep_compiled(wanted=False):
            assert not jax.config.jax_enable_compilation_cache
            compile_one(6)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert not programs(enabled)


def test_a_cache_that_cannot_be_written_fails_nothing(enabled):
    with keep_compiled():
        folder = Path(jax.config.jax_compilation_cache_dir)
        folder.rmdir()
        folder.write_text("a file in its place")
        compile_one(7)
    assert not programs(enabled)


@pytest.mark.parametrize("options", [[], ["--no-cache"]], ids=["kept", "not kept"])
def test_every_command_with_a_model_keeps_them(options, enabled, monkeypatch):
    seen = []
    monkeypatch.setattr("dave_jax.commands.explain", lambda arguments: seen.append(jax.config.jax_enable_compilation_cache) or 0)
    assert main(["explain", "photo.jpg", *options]) == 0
    assert seen == [not options] and (enabled / "dave_jax").exists() == (not options)


@pytest.mark.slow
def test_a_second_start_reads_what_the_first_wrote(tmp_path):
    program = [
        sys.executable,
        "-m",
        "dave_jax",
        "explain",
        "dave_jax/assets/photos/golf_ball.jpg",
        "--samples",
        "1",
        "-o",
        str(tmp_path / "maps"),
    ]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "JAX_ENABLE_COMPILATION_CACHE": "true"}
    written = []
    for _ in range(2):
        done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT)
        assert (done.returncode, done.stderr) == (0, "")
        written.append({path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*-cache")})
    assert any("attribute" in name for name in written[0])  # small programs compile in about the least time worth keeping
    assert written[0].items() <= written[1].items()
