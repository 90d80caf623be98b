"""What a process takes of its machine: processors by affinity and quota, and freed memory."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from vljepa_jax import host

ROOT = Path(__file__).parents[1]


@pytest.fixture
def machine(monkeypatch):
    """A machine of 64 processors."""
    monkeypatch.setattr(host, "_affinity", lambda: 64)


def groups(root, own, files):
    """A root with what ``/proc/self/cgroup`` says, and files below ``/sys/fs/cgroup``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(own)
    for path, content in files.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


V1_QUOTA, V1_PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # one and a half
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/\n", {"cpu.max": "9000000 100000\n"}, 64),  # more than there are
        ("0::/\n", {}, 64),  # the root group has no quota
        # The least of the groups around it.
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 50000\n", "a/cpu.max": "500000 50000\n"}, 4),
        (
            "3:cpuset:/\n2:cpu,cpuacct:/jobs/7\n0::/jobs/7\n",
            {f"cpu/jobs/7/{V1_QUOTA}": "250000\n", f"cpu/jobs/7/{V1_PERIOD}": "50000\n"},
            5,
        ),
        # A container is told the path outside of it, and sees its group as the root.
        (
            "2:cpu,cpuacct:/docker/0123\n",
            {f"cpu/{V1_QUOTA}": "700000\n", f"cpu/{V1_PERIOD}": "100000\n"},
            7,
        ),
        ("2:cpu:/\n", {f"cpu/{V1_QUOTA}": "-1\n", f"cpu/{V1_PERIOD}": "100000\n"}, 64),
        # Quotas of other controllers' groups are none of a processor.
        ("3:cpuset:/a\n", {f"cpu/a/{V1_QUOTA}": "100000\n", f"cpu/a/{V1_PERIOD}": "100000\n"}, 64),
    ],
)
def test_processors_are_those_that_the_quota_pays_for(machine, tmp_path, own, files, expected):
    assert host.available_cpus(groups(tmp_path, own, files)) == expected


def test_without_control_groups_the_affinity_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 8}, raising=False)
    assert host.available_cpus(tmp_path) == 3


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 1),
        ({"SLURM_TASKS_PER_NODE": "8(x4)"}, 1),  # a batch script itself, without srun
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x4)", "SLURM_NODEID": "3"}, 8),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x3),4", "SLURM_NODEID": "2"}, 8),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x3),4", "SLURM_NODEID": "3"}, 4),
        ({"SLURM_STEP_TASKS_PER_NODE": "2,3(x2)", "SLURM_NODEID": "0"}, 2),
        # mpirun inside a SLURM job
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "4", "SLURM_STEP_TASKS_PER_NODE": "1"}, 4),
    ],
)
def test_processes_of_a_host_are_counted_by_their_launcher(environment, expected):
    assert host.processes(environment) == expected


@pytest.mark.parametrize(("workers", "expected"), [(16, 2), (96, 12), (17, 3), (1, 1), (0, 0)])
def test_eight_processes_share_the_workers_of_a_host(monkeypatch, workers, expected):
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "8")
    monkeypatch.setenv("SLURM_NODEID", "0")
    assert host.share(workers) == expected


@pytest.mark.parametrize("of_each", [12, 96])
def test_a_host_has_as_many_processors_bound_or_not(monkeypatch, of_each):
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "8")
    monkeypatch.setattr(host, "available_cpus", lambda: of_each)
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    assert host.host_cpus() == 96


def test_pools_are_sized_where_the_quota_is_below_the_affinity(machine, monkeypatch):
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "1"})
    monkeypatch.setattr(host, "available_cpus", lambda: 64)
    host.limit_threads()
    assert os.environ == {"OMP_NUM_THREADS": "1"}  # XLA counts processors itself
    monkeypatch.setattr(host, "available_cpus", lambda: 2)
    host.limit_threads()
    assert os.environ == {"OMP_NUM_THREADS": "1", "NPROC": "2"}


def test_xla_has_as_many_threads_as_it_is_told():
    """NPROC is XLA's own; should it change its mind, a quota is no longer followed."""
    program = """
import os, jax
jax.devices()
names = [open(f"/proc/self/task/{t}/comm").read() for t in os.listdir("/proc/self/task")]
print(sum("Eigen" in name for name in names))
"""
    if sys.platform != "linux":
        pytest.skip("threads are counted in /proc")
    found = {n: run(program, NPROC=str(n)) for n in (3, 5)}
    assert found == {3: 3, 5: 5}


# Fills 64 MiB twice: more than malloc ever learns to keep by itself. Freed memory that was given
# back is faulted in again, in pages of 4 KiB or of 2 MiB.
FILL = """
import resource
def faults():
    def fill():
        b"x" * 2**26
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    first = fill()
    return fill() - first
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of another C library")


def run(program, **environment):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@glibc
def test_a_command_keeps_freed_memory():
    program = (
        "from vljepa_jax.config import command_line\ncommand_line.run(lambda: print(faults()))"
    )
    assert run(FILL + program) < 16


@glibc
def test_the_library_leaves_memory_alone():
    assert run(FILL + "import vljepa_jax, vljepa_jax.config.command_line\nprint(faults())") >= 32


@glibc
@pytest.mark.parametrize(
    "asked",
    [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}],
)
def test_what_the_environment_says_of_malloc_stays(asked):
    program = "from vljepa_jax import host\nhost.keep_memory()\nprint(faults())"
    assert run(FILL + program, **asked) >= 32
