import os
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import jax
import pytest

from vljepa_jax.parallel import compilation_cache


@pytest.fixture
def nothing_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_MAX_SIZE", raising=False)
    names = (
        "jax_compilation_cache_dir",
        "jax_compilation_cache_max_size",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.skipif(sys.platform != "linux", reason="the processor's kind is Linux's to tell")
def test_a_cpus_programs_are_kept_by_its_kind(nothing_kept):
    compilation_cache.keep_compiled()
    kept = Path(jax.config.jax_compilation_cache_dir)
    assert kept.parent == nothing_kept / ".cache/vljepa_jax"
    assert kept.name == f"cpu-{compilation_cache._processor_kind(Path('/proc/cpuinfo'))}"
    assert jax.config.jax_compilation_cache_max_size == 4 << 30
    compilation_cache.keep_compiled("")
    assert jax.config.jax_compilation_cache_dir is None


def test_no_program_is_kept_where_it_would_not_be_safe_or_cannot_be(nothing_kept, monkeypatch):
    (nothing_kept / ".cache").write_text("in the way")
    compilation_cache.keep_compiled()
    assert jax.config.jax_compilation_cache_dir is None
    (nothing_kept / ".cache").unlink()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    compilation_cache.keep_compiled()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_processors_kind_is_what_it_can_do(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    assert compilation_cache._processor_kind(cpuinfo) is None
    kinds = []
    for flags in ("fpu avx2 fma", "fma fpu avx2", "fpu avx2 fma avx512f"):
        cpuinfo.write_text(f"processor : 0\ncpu MHz : {len(kinds)}\nflags\t\t: {flags}\n")
        kinds.append(compilation_cache._processor_kind(cpuinfo))
    assert kinds[0] == kinds[1] != kinds[2]


def test_a_bound_that_somebody_sets_is_kept(nothing_kept):
    jax.config.update("jax_compilation_cache_max_size", 1000)
    compilation_cache.keep_compiled()
    assert jax.config.jax_compilation_cache_max_size == 1000


def test_programs_of_other_devices_are_kept_apart_and_those_of_a_job_without_a_bound(
    nothing_kept, monkeypatch
):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    compilation_cache.keep_compiled()
    assert Path(jax.config.jax_compilation_cache_dir) == nothing_kept / ".cache/vljepa_jax"
    assert jax.config.jax_compilation_cache_max_size == -1
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    compilation_cache.keep_compiled()
    assert Path(jax.config.jax_compilation_cache_dir) == nothing_kept / ".cache/vljepa_jax/tpu"
    assert jax.config.jax_compilation_cache_max_size == 4 << 30


PROGRAM = """
import jax, jax.numpy as jnp
from vljepa_jax.parallel.compilation_cache import keep_compiled
keep_compiled()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x * 2)(1.0)
jax.jit(lambda x: x + 3)(1.0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the processor's kind is Linux's to tell")
def test_an_entry_of_a_killed_command_is_cleared_and_a_whole_one_stays(nothing_kept):
    environment = os.environ | {"JAX_RAISE_PERSISTENT_CACHE_ERRORS": "true"}

    def start():
        subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], env=environment, check=True)
        (kept,) = (nothing_kept / ".cache/vljepa_jax").iterdir()
        return {path: path.stat().st_mtime_ns for path in kept.glob("*-cache")}

    written = start()
    torn, *whole = sorted(written)
    assert whole
    torn.write_bytes(torn.read_bytes()[:50])
    torn.with_name(f"{torn.name.removesuffix('-cache')}-atime").unlink(missing_ok=True)
    left = start()
    assert {path: left[path] for path in whole} == {path: written[path] for path in whole}
    assert left[torn] > written[torn]  # compiled, and kept, again


def test_an_entry_that_another_command_is_writing_stays(tmp_path):
    with filelock.FileLock(tmp_path / ".lockfile"):
        sweeping = threading.Thread(target=compilation_cache._sweep, args=[tmp_path])
        (tmp_path / "key-cache").write_bytes(b"a program")
        sweeping.start()
        sweeping.join(0.5)
        assert sweeping.is_alive()
        (tmp_path / "key-atime").write_bytes(bytes(8))
    sweeping.join()
    assert (tmp_path / "key-cache").exists()


def test_a_command_starts_where_others_hold_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation_cache, "_WAIT", 0.1)
    (tmp_path / "key-cache").write_bytes(b"a program")
    held = filelock.FileLock(tmp_path / ".lockfile")
    with held:
        sweeping = threading.Thread(target=compilation_cache._sweep, args=[tmp_path])
        sweeping.start()
        sweeping.join()
        assert (tmp_path / "key-cache").exists()
    compilation_cache._sweep(tmp_path)
    assert not (tmp_path / "key-cache").exists()
