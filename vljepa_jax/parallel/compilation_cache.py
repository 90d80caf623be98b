"""Where compiled programs are kept between commands: bounded, and freed of what killed ones left.

A cache with a bound has for each entry ``KEY-cache``, the program, and then ``KEY-atime``, when it
was last read; JAX touches them under one lock of the directory, which ends with its process, and
drops what was not read for longest. So an entry without ``KEY-atime``, seen under the lock, is one
whose writer was killed, and JAX would warn of it at each later command.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re

import filelock
import jax

from vljepa_jax.fingerprint import fingerprint

_MOST_BYTES = 4 << 30  # of one directory; a training's programs take megabytes
_WAIT = 10.0  # seconds for the lock, as JAX waits


def keep_compiled(directory: str | None = None) -> None:
    """Keeps compiled programs in ``directory`` for later processes; "" keeps none.

    ``None`` takes JAX_COMPILATION_CACHE_DIR, where it is set, or else a directory of this backend
    in ~/.cache/vljepa_jax if it can be written: on a CPU one for this kind of processor, since a
    program compiled for one may not run on another that shares the disk. It holds 4 GiB, unless
    JAX_COMPILATION_CACHE_MAX_SIZE says other bytes. A job of several processes keeps nothing on
    CPUs; on other devices all its processes read one entry at a time, and would wait for each other
    at a lock, so that it keeps them in ~/.cache/vljepa_jax itself, without a bound. In a directory
    that somebody names, JAX's own settings hold.
    """
    if directory is None:
        if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
            return
        directory = _own_directory()
    jax.config.update("jax_compilation_cache_dir", directory or None)


def _own_directory() -> str:
    """Makes and sweeps what ``keep_compiled`` takes by itself; "" where nothing can be kept."""
    directory = pathlib.Path(os.path.expanduser("~/.cache/vljepa_jax"))
    backend, alone = jax.default_backend(), jax.process_count() == 1
    if backend == "cpu":
        kind = _processor_kind(pathlib.Path("/proc/cpuinfo"))
        if kind is None or not alone:
            return ""
        # JAX keeps what takes a second; a model's programs for texts take less.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        backend = f"cpu-{kind}"
    if alone:
        directory /= backend
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if alone:
            _sweep(directory)
    except OSError:  # e.g. a home that is read-only: it will compile again
        return ""
    if alone and jax.config.jax_compilation_cache_max_size == -1:
        jax.config.update("jax_compilation_cache_max_size", _MOST_BYTES)
    return str(directory)


def _sweep(directory: pathlib.Path) -> None:
    """Removes the entries that were not written to their end; waits for one that is written now.

    Raises:
        OSError: the directory cannot be written.
    """
    with (
        contextlib.suppress(filelock.Timeout),  # others are at work: the next command sweeps
        filelock.FileLock(directory / ".lockfile", timeout=_WAIT),
    ):
        for entry in directory.glob("*-cache"):
            if not entry.with_name(f"{entry.name.removesuffix('-cache')}-atime").exists():
                entry.unlink()


def _processor_kind(cpuinfo: pathlib.Path) -> str | None:
    """A name for the instructions that this processor has; ``None`` where Linux does not tell."""
    if not cpuinfo.is_file():
        return None
    told = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    return fingerprint(sorted(told[1].split()), {}) if told else None
