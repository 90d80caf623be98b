"""Locks that end with their process, and what killed writers leave."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from etils import epath

from tests.helpers.subprocesses import PROGRAMS
from vljepa_jax.ownership import LOCK, InUse, new_directory, owned

OWNER = """
import sys, time
from pathlib import Path
from vljepa_jax.ownership import new_directory, owned
kind = {"owned": owned, "new": new_directory}[sys.argv[1]]
with kind(Path(sys.argv[2])) as given:
    if sys.argv[1] == "new":
        (given / "half").write_text("of a file")
        (given / "folder").mkdir()
    print("ready", flush=True)
    time.sleep(600)
"""


def start_owner(kind, directory):
    command = [sys.executable, "-c", OWNER, kind, str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_second_owner_is_refused_until_the_first_is_killed(tmp_path):
    process = start_owner("owned", tmp_path / "run")
    with (
        pytest.raises(InUse, match=f"process {process.pid} on .* is writing to .*run"),
        owned(tmp_path / "run"),
    ):
        pass
    with owned(tmp_path / "run", name=".another"):  # owned apart
        pass
    process.kill()
    process.wait()
    assert (tmp_path / "run" / LOCK).exists()  # the file of the killed owner, with no lock on it
    with owned(tmp_path / "run") as held:
        assert held
    assert list((tmp_path / "run").iterdir()) == []


def test_a_directory_that_stays_empty_goes_with_its_owner(tmp_path):
    with pytest.raises(ValueError, match="not so"), owned(tmp_path / "run"):
        raise ValueError("not so")
    assert not (tmp_path / "run").exists()
    with owned(tmp_path / "run"):
        (tmp_path / "run" / "file").write_text("")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


def test_one_waits_for_the_other(tmp_path):
    told = []
    process = start_owner("owned", tmp_path / "run")

    def tell(text):
        told.append(text)
        process.kill()

    with owned(tmp_path / "run", wait=True, tell=tell) as held:
        assert held
        assert process.wait() == -signal.SIGKILL
    assert told == [
        f"waiting for process {process.pid} on {os.uname().nodename}, which is writing "
        f"to '{tmp_path / 'run'}'"
    ]


def test_many_owners_follow_each_other(tmp_path):
    """Each waits, makes a file that must not be there, and removes it; the lock's file comes and
    goes with each."""

    def turn():
        for _ in range(50):
            with owned(tmp_path / "run", wait=True, tell=lambda text: None):
                (tmp_path / "run" / "alone").touch(exist_ok=False)
                (tmp_path / "run" / "alone").unlink()
        counted.append(1)

    counted = []
    threads = [threading.Thread(target=turn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 4


def test_a_directory_that_goes_and_comes_while_it_is_locked(tmp_path, monkeypatch):
    """Its owner removes it before the lock's file is opened, and the next owner makes it again."""
    gone = [FileNotFoundError("as the directory was not there")]

    def open_late(*args, **settings):
        if gone:
            raise gone.pop()
        return open(*args, **settings)

    monkeypatch.setattr("vljepa_jax.ownership.open", open_late, raising=False)
    with owned(tmp_path) as held:
        assert held
    assert not gone


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    told = []
    monkeypatch.setattr(fcntl, "flock", refuse)
    with owned(tmp_path / "run", tell=told.append) as held:
        assert not held
    assert "a file system without locks (No locks available)" in told[0]
    left = tmp_path / ".data.partial"
    left.mkdir()
    (left / "half").write_text("perhaps of a writer that lives")
    with (
        pytest.raises(InUse, match="remove it"),
        new_directory(tmp_path / "data", tell=told.append),
    ):
        pass
    assert (left / "half").exists()


def test_a_bucket_has_no_locks():
    told = []
    with owned(epath.Path("gs://bucket/run"), tell=told.append) as held:
        assert not held
    assert "'gs://bucket/run' lies in a bucket, which has no locks" in told[0]


def test_a_new_directory_appears_whole(tmp_path):
    target = tmp_path / "data"
    with new_directory(target) as scratch:
        (scratch / "file").write_text("whole")
        assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert [path.name for path in target.iterdir()] == ["file"]
    with pytest.raises(FileExistsError, match="data exists"), new_directory(target):
        pass
    with new_directory(target, replace=True) as scratch:
        (scratch / "other").write_text("whole")
    assert [path.name for path in target.iterdir()] == ["other"]
    with pytest.raises(FileNotFoundError), new_directory(target, replace=True) as scratch:
        (scratch / "nowhere" / "third").write_text("")
    assert [path.name for path in target.iterdir()] == ["other"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_a_killed_writer_left_is_cleared_and_what_a_live_one_makes_is_not(tmp_path):
    target = tmp_path / "data"
    process = start_owner("new", target)
    with pytest.raises(InUse, match=f"process {process.pid}"), new_directory(target):
        pass
    assert (tmp_path / ".data.partial" / "half").exists()
    process.kill()
    process.wait()
    with new_directory(target) as scratch:
        assert [path.name for path in scratch.iterdir()] == [LOCK]
        (scratch / "file").write_text("whole")
    assert [path.name for path in target.iterdir()] == ["file"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


SEGMENTS = """
import os, sys, time
from multiprocessing import shared_memory
from vljepa_jax.ownership import shared_memory_prefix
prefix = shared_memory_prefix()
open(f"/dev/shm/{prefix}abc", "w").close()
print(prefix, flush=True)
if sys.argv[1] == "stays":
    time.sleep(600)
os.unlink(f"/dev/shm/{prefix}abc")
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="segments are seen on Linux alone")
def test_segments_of_killed_processes_are_freed_and_no_others(tmp_path):
    def start(how):
        command = [sys.executable, "-c", SEGMENTS, how]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return process, process.stdout.readline().strip()

    killed, of_killed = start("stays")
    killed.kill()
    killed.wait()
    assert list(Path("/dev/shm").glob(f"{of_killed}*"))
    alive, of_alive = start("stays")
    try:
        assert is_soon(lambda: not left_of(of_killed))
        ended, _ = start("ends")
        assert ended.wait() == 0
        assert list(Path("/dev/shm").glob(f"{of_alive}*"))
    finally:
        alive.kill()
        alive.wait()
    start("ends")[0].wait()
    assert is_soon(lambda: not left_of(of_alive))


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_soon(condition):
    """Whether it holds in the end. Another command of this machine may be freeing the same."""
    latest = time.monotonic() + 300
    while not condition() and time.monotonic() < latest:
        time.sleep(0.05)
    return condition()


def left_of(prefix):
    """What lies in shared memory of one owner."""
    return list(Path("/dev/shm").glob(f"*{prefix.removesuffix('-')}*"))


ENDING_MAKER = """
import os, sys, _posixshmem
from vljepa_jax.data.workers import _name_of_segment
name = _name_of_segment(sys.argv[1])
_posixshmem.shm_open(name, os.O_CREAT | os.O_RDWR, mode=0o600)
assert os.path.exists(f"/dev/shm{name}")
os._exit(0)
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="segments are seen on Linux alone")
def test_a_segment_is_freed_whose_maker_ends_as_it_has_made_it():
    """It has told nobody of it: Python's own process for freeing it was told before."""
    prefix = f"vljepa_jax-test{os.getpid()}-"
    subprocess.run([sys.executable, "-c", ENDING_MAKER, prefix], check=True)
    assert is_soon(lambda: not left_of(prefix))


@pytest.mark.parametrize("kind", ["pool", "grain"])
@pytest.mark.parametrize("group", [False, True], ids=["parent", "group"])
def test_workers_end_with_their_killed_parent_and_their_memory_is_freed(tmp_path, kind, group):
    """``group``: all processes are killed, also the one by which Python frees shared memory."""
    errors = (tmp_path / "errors").open("w+")
    process = subprocess.Popen(
        [sys.executable, PROGRAMS / "orphaned_workers.py", kind],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
    )
    prefix, *pids = process.stdout.readline().split()
    assert len(pids) >= 2
    names = {path.name.split(".")[0].split("-")[0] for path in left_of(prefix)}
    assert names == ({"vljepa_jax", "sem"} if Path("/dev/shm").is_dir() else set())
    if kind == "grain":
        assert list(Path("/dev/shm").glob(f"{prefix}*"))
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    assert is_soon(lambda: not any(is_running(int(pid)) for pid in pids))
    if not group:  # nothing but its lock is left to the next one
        assert is_soon(lambda: len(left_of(prefix)) <= 1)
    subprocess.run([sys.executable, "-c", SEGMENTS, "ends"], check=True, stdout=subprocess.DEVNULL)
    assert is_soon(lambda: not left_of(prefix))
    with errors:
        assert "resource_tracker" not in (tmp_path / "errors").read_text()
