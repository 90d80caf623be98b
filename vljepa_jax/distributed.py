"""What a process does before it trains: it joins the others of its run, and opens the cache."""

from __future__ import annotations

import glob
import importlib.util
import os
from collections.abc import Mapping
from typing import Literal

import jax

from vljepa_jax.config import ConfigError

Launcher = Literal["environment", "slurm", "open_mpi", "tpu"]


def launcher(environment: Mapping[str, str]) -> Launcher | None:
    """What started this process as one of several; ``None`` for a process on its own.

    "environment" is JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and JAX_PROCESS_ID, which any
    launcher can set (Kubernetes does, in launch/cluster/jobset_gpu.yaml). SLURM and Open MPI count
    where they start more than one task. A TPU virtual machine may be one host of a slice or all of
    it: JAX asks the machine.
    """
    if environment.get("JAX_COORDINATOR_ADDRESS"):
        return "environment"
    if _many(environment, "SLURM_STEP_NUM_TASKS"):  # of srun; a batch script alone is one process
        return "slurm"
    if _many(environment, "OMPI_COMM_WORLD_SIZE"):
        return "open_mpi"
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms in ("", "tpu") and importlib.util.find_spec("libtpu") and _has_tpu():
        return "tpu"
    return None


def initialise() -> None:
    """Joins the other processes of this run, where there are any; before JAX is used otherwise.

    Raises:
        ConfigError: JAX_COORDINATOR_ADDRESS is set without the other two variables.
    """
    found = launcher(os.environ)
    if found is None:
        return
    if found != "environment":
        jax.distributed.initialize()  # it reads what this launcher leaves
        return
    numbers = {}
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        value = os.environ.get(name, "")
        if not value.isdigit():
            raise ConfigError(
                f"{name}: '{value}' is no number, but JAX_COORDINATOR_ADDRESS is set; set both, or "
                "neither for a run of one process"
            )
        numbers[name] = int(value)
    jax.distributed.initialize(
        os.environ["JAX_COORDINATOR_ADDRESS"],
        numbers["JAX_NUM_PROCESSES"],
        numbers["JAX_PROCESS_ID"],
        cluster_detection_method="deactivate",  # all devices of the host are this process's
    )


def keep_compiled(directory: str | None) -> None:
    """Keeps compiled programs in ``directory`` for later processes.

    ``None`` takes ~/.cache/vljepa_jax on accelerators. On a CPU nothing is kept: a program compiled
    for one processor may not run on another that shares the disk. JAX_COMPILATION_CACHE_DIR, where
    it is set, goes before ``None``.
    """
    if directory is None:
        if os.environ.get("JAX_COMPILATION_CACHE_DIR") or jax.default_backend() == "cpu":
            return
        directory = os.path.expanduser("~/.cache/vljepa_jax")
    jax.config.update("jax_compilation_cache_dir", directory or None)


def _many(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").isdigit() and int(environment[name]) > 1


def _has_tpu() -> bool:
    """Device files of a TPU, under the names of older and newer generations."""
    return bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))
