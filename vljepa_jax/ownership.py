"""One writer at a time: what a command writes to is locked until its process ends, however it ends.

The lock is the system's (``flock``) on a file beside what is written. It goes with its process, so
that a crash leaves none behind, and it holds between hosts on file systems that pass it on (NFS
from version 3, Lustre mounted with ``flock``, GPFS, CephFS). A bucket has no such lock, nor has
every file system: that is said, and nothing is cleared there that another writer may need.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import functools
import multiprocessing
import os
import pathlib
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from vljepa_jax.places import AnyPath, in_bucket

LOCK = ".lock"
# What flock answers where the file system has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_SHARED_MEMORY = pathlib.Path("/dev/shm")  # where Linux shows its segments as files
_SEGMENT = "vljepa_jax-"  # the names of all segments begin so, then their owner's


class InUse(OSError):
    """Another process is writing there; the message names the place and the process."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def owned(
    directory: AnyPath,
    *,
    name: str = LOCK,
    wait: bool = False,
    tell: Callable[[str], None] = _say,
) -> Iterator[bool]:
    """Owns a directory until the block or the process ends; makes it where it is not there.

    Args:
        name: of the lock's file in it. Different names are owned apart.
        wait: for another owner to end, however long that takes.
        tell: told where there are no locks, or who is waited for.

    Yields:
        Whether the lock is held: not so where there are none.

    Raises:
        InUse: another process owns it, and is not waited for.
        OSError: the file cannot be written.
    """
    if in_bucket(directory):
        tell(
            f"'{directory}' lies in a bucket, which has no locks: nothing keeps another command "
            "from writing there at the same time"
        )
        yield False
        return
    made = not directory.exists()
    try:
        file, held = _locked(directory, name, wait, tell)
        with file:
            try:
                yield held
            finally:
                # While it is held: who has opened it meanwhile sees that it is no longer there.
                (directory / name).unlink(missing_ok=True)
    finally:
        if made:
            with contextlib.suppress(OSError):  # not empty, or not there: it has become something
                directory.rmdir()


def _locked(
    directory: AnyPath, name: str, wait: bool, tell: Callable[[str], None]
) -> tuple[TextIO, bool]:
    path = directory / name
    while True:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (closed with the ownership)
        except (FileNotFoundError, FileExistsError):
            if os.path.isfile(directory) or any(map(os.path.islink, (directory, path))):
                raise
            continue  # its owner has removed the directory meanwhile; the next may have made it
        try:
            held = _lock(file, directory, wait, tell)
            if not held or _is_there(file, path):
                return file, held
        except BaseException:
            file.close()
            raise
        file.close()  # its owner has removed the file meanwhile


def _lock(file: TextIO, directory: AnyPath, wait: bool, tell: Callable[[str], None]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        if not wait:
            raise InUse(
                f"{owner} is writing to '{directory}': wait for it, end it, or name another place"
            ) from None
        tell(f"waiting for {owner}, which is writing to '{directory}'")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        tell(
            f"'{directory}' lies on a file system without locks ({error.strerror}): nothing keeps "
            "another command from writing there at the same time"
        )
        return False
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return True


def _is_there(file: TextIO, path: AnyPath) -> bool:
    """Whether the file that is open is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def new_directory(
    target: pathlib.Path,
    *,
    wait: bool = False,
    replace: bool = False,
    tell: Callable[[str], None] = _say,
) -> Iterator[pathlib.Path]:
    """A directory to fill, which appears under its name when the block has ended well.

    It is filled under the name ``.NAME.partial`` beside it, by one process at a time. What a killed
    one has left there is cleared by the next.

    Args:
        wait, tell: as of ``owned``.
        replace: whether it takes the place of one that is there.

    Yields:
        Where to write.

    Raises:
        FileExistsError: ``target`` exists, or has come to exist, and is not replaced.
        InUse: another process is making it, and is not waited for; or there are no locks, and what
            is there may be another process's.
    """
    scratch = target.with_name(f".{target.name}.partial")
    with owned(scratch, wait=wait, tell=tell) as held:
        left = [path for path in scratch.iterdir() if path.name != LOCK]
        if left and not held:
            raise InUse(
                f"'{scratch}' is there, from a command that was killed or still writes: remove it "
                "if none does"
            )
        try:
            _clear(left)
            if target.exists() and not replace:
                raise FileExistsError(f"{target} exists; remove it or name another directory")
            yield scratch
            if replace and target.exists():
                shutil.rmtree(target)
            os.rename(scratch, target)
        except BaseException as error:
            shutil.rmtree(scratch, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(f"{target} exists; remove it or name another place") from None
            raise
        (target / LOCK).unlink(missing_ok=True)


def _clear(paths: list[pathlib.Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # Python may be freeing a dead owner's memory itself


@functools.cache
def shared_memory_prefix() -> str:
    """How the names of this process's segments of shared memory begin; "" where none are seen.

    Those of the semaphores that ``multiprocessing`` makes from then on begin so too. When it is
    called first, it frees what processes that have ended have left: whose lock nobody holds. Each
    has its own from before its first segment.
    """
    if not _SHARED_MEMORY.is_dir():
        return ""
    found = _SHARED_MEMORY.glob(f"*{_SEGMENT}*")
    for prefix in {re.search(rf"{_SEGMENT}[0-9a-f]*", path.name)[0] for path in found}:
        with (
            contextlib.suppress(InUse, PermissionError),  # alive, or another user's
            owned(_SHARED_MEMORY, name=f"{prefix}{LOCK}") as held,
        ):
            if held:
                _clear(list(_SHARED_MEMORY.glob(f"{prefix}-*")))
                _clear(list(_SHARED_MEMORY.glob(f"sem.{prefix}-*")))
    prefix = f"{_SEGMENT}{secrets.token_hex(8)}"
    # Python has a process that frees what a killed one leaves, and warns of each as of a fault.
    sys.warnoptions.append("ignore:resource_tracker")
    until_the_end = contextlib.ExitStack()
    # Another process may look at the lock's file while it is made, but not for long.
    until_the_end.enter_context(owned(_SHARED_MEMORY, name=f"{prefix}{LOCK}", wait=True))
    atexit.register(until_the_end.close)
    # Handed on to the processes that are started. The standard library has no public way.
    multiprocessing.current_process()._config["semprefix"] = f"/{prefix}"
    return f"{prefix}-"
