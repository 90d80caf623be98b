import os
import socket
import subprocess
import sys

import pytest

from vljepa_jax.config import ConfigError
from vljepa_jax.parallel import distributed


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"JAX_COORDINATOR_ADDRESS": "host:1", "SLURM_STEP_NUM_TASKS": "4"}, "environment"),
        ({"SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "3"}, "slurm"),
        ({"SLURM_STEP_NUM_TASKS": "1"}, None),
        # A batch script has the job's number of tasks, but is one process.
        ({"SLURM_NTASKS": "16", "SLURM_PROCID": "0"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "open_mpi"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
    ],
)
def test_launchers_are_told_apart(environment, found):
    assert distributed.launcher({"JAX_PLATFORMS": "cpu"} | environment) == found


@pytest.mark.parametrize("names", [("/dev/accel0",), ("/dev/vfio/0",)])
def test_a_tpu_host_is_seen_by_its_devices(monkeypatch, names):
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(
        distributed.glob, "glob", lambda pattern: [n for n in names if n.startswith(pattern[:8])]
    )
    assert distributed.launcher({}) == "tpu"
    assert distributed.launcher({"JAX_PLATFORMS": "cpu"}) is None
    monkeypatch.setattr(distributed.glob, "glob", lambda pattern: [])
    assert distributed.launcher({}) is None


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.delenv("JAX_PROCESS_ID", raising=False)
    with pytest.raises(ConfigError, match="JAX_PROCESS_ID: '' is no number"):
        distributed.initialise()


PROGRAM = """
import jax
from vljepa_jax.parallel import distributed
from vljepa_jax.parallel import processes
from vljepa_jax.config import ConfigError
with distributed.job():
    index = jax.process_index()
    print(index, jax.process_count(), jax.device_count(), jax.local_device_count())
    print(processes.of_first(lambda: f"said by {index}"))
    print(processes.divided(lambda part: [(index, item) for item in part], range(3)))
    print(list(processes.rounds(iter("ab"[: index + 1]))))
    processes.require_same("a thing", "the same")
    try:
        processes.require_same("a thing", f"seen by {index}")
    except ConfigError as error:
        print(error)
"""


def test_two_processes_find_each_other_and_agree(free_port):
    def start(index):
        environment = os.environ | {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{free_port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(index),
            "JAX_NUM_CPU_DEVICES": "2",
        }
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    processes = [start(0), start(1)]
    answers = [process.communicate(timeout=900)[0].splitlines() for process in processes]
    # Gloo tells of its connections in lines of its own, and may break them.
    found = [
        [line for line in lines if "[Gloo]" not in line and "peer ranks" not in line]
        for lines in answers
    ]
    assert [lines[0] for lines in found] == ["0 2 4 2", "1 2 4 2"]
    assert found[0][1:] == found[1][1:]
    *said, differing = found[0][1:]
    assert said == [
        "said by 0",
        "[(0, 0), (1, 1), (1, 2)]",
        "[['a', 'a'], ['b']]",
    ]
    assert differing.startswith("a thing: seen by 0 in process 0 on ")
    assert "but seen by 1 in process 1 on " in differing
    assert [process.returncode for process in processes] == [0, 0]


@pytest.fixture
def free_port():
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]


def test_processes_with_different_numbers_of_devices_are_refused():
    distributed._check_devices([0, 0, 1, 1])
    with pytest.raises(ConfigError, match="of this job have 2, 1, 2 devices; .* start them alike"):
        distributed._check_devices([0, 0, 1, 2, 2])
