"""The share of a machine that a process takes: its processors, and freed memory.

Several processes of a job may run on one machine, and then share its decoding processes.

Commands and benchmarks call ``set_up`` at their start. Importing the package changes nothing: the
process of a program that uses it as a library is not ours.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

# Parameters of mallopt, from glibc's malloc.h, with the values that keep all memory.
_TRIM_THRESHOLD = (-1, -1)  # the end of the heap is never given back
_MMAP_MAX = (-4, 0)  # nothing lies outside the heap, to be given back when it is freed
_ARENA_MAX = (-8, 1)  # all threads share the one heap that may grow so


def set_up() -> None:
    """Keeps freed memory, and has as many threads as processors; before threads are started."""
    keep_memory()
    limit_threads()


def keep_memory() -> None:
    """Tells glibc's malloc to keep what is freed for what is asked for next.

    On a CPU, XLA takes the temporaries of every step from malloc. By default their pages go back to
    the kernel, and are zeroed and faulted in anew in the next step: 230,000 in one of the demo
    (``benchmarks/allocator.py``). It must be said before threads have heaps of their own, which
    give pages back whatever is said here.

    Processes that are started from this one do not inherit it: loader workers decode into small
    buffers, which malloc learns to keep. Other C libraries are left alone, and so is a malloc that
    the environment sets up.
    """
    asked = any(name.startswith("MALLOC_") for name in os.environ)
    if asked or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has none
        for parameter, value in (_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX):
            libc.mallopt(parameter, value)


def limit_threads() -> None:
    """Sizes thread pools by the quota of a container, where it is below the processors' number.

    XLA's pools follow the affinity, or NPROC; BLAS of this process's children OMP_NUM_THREADS. More
    threads than the quota pays for are stopped together for a part of each period. What the
    environment says already stays.
    """
    if (count := available_cpus()) < _affinity():
        for name in ("NPROC", "OMP_NUM_THREADS"):
            os.environ.setdefault(name, str(count))


def available_cpus(root: Path = Path("/")) -> int:
    """How many processors this process may use: its affinity, and its control groups' quota.

    Args:
        root: where ``proc`` and ``sys`` are.

    Returns:
        At least 1; a quota of one and a half processors counts as two.
    """
    return max(1, min([_affinity(), *(math.ceil(quota) for quota in _quotas(root))]))


def host_cpus() -> int:
    """How many processors the processes of this job on this host may use together.

    A launcher may bind each to processors of its own, or none.
    """
    return min(available_cpus() * processes(os.environ), os.cpu_count() or 1)


def share(workers: int) -> int:
    """This process's part of a host's ``workers``, rounded up; what a recipe says is of a host."""
    return -(-workers // processes(os.environ))


def processes(environment: Mapping[str, str]) -> int:
    """How many processes of this job run on this host, as Open MPI or SLURM says; otherwise 1."""
    if local := environment.get("OMPI_COMM_WORLD_LOCAL_SIZE"):
        return int(local)
    if tasks := environment.get("SLURM_STEP_TASKS_PER_NODE"):
        # srun's, by nodes: "8(x3),4" is 8 on each of three nodes and 4 on the last.
        groups = re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks)
        by_node = [int(count) for count, nodes in groups for _ in range(int(nodes or 1))]
        return by_node[int(environment["SLURM_NODEID"])]
    return 1


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Processors that the quota of each control group around this process is worth."""
    groups = root / "proc/self/cgroup"
    if not groups.is_file():  # not Linux
        return
    mounted = root / "sys/fs/cgroup"
    for line in groups.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            for group in _around(mounted, path):
                if (limit := group / "cpu.max").is_file():
                    quota, period = limit.read_text().split()
                    if quota != "max":
                        yield int(quota) / int(period)
        elif "cpu" in controllers.split(","):  # version 1
            # "cpu" is a link to all controllers that are mounted together, if anything is.
            for group in _around(mounted / "cpu", path):
                if (limit := group / "cpu.cfs_quota_us").is_file():
                    quota, period = (
                        int((group / name).read_text())
                        for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                    )
                    if quota > 0:
                        yield quota / period


def _around(mounted: Path, path: str) -> Iterator[Path]:
    """The directories of a control group and of those around it.

    A container may be told the path that its group has outside, and see its own group as the root.
    """
    yield mounted
    for part in PurePosixPath(path).parts[1:]:
        mounted /= part
        yield mounted
