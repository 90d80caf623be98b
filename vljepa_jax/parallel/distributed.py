"""The start of a process: it joins the others of its job.

A job ends as one. Its processes leave together when all are done, however long the first one writes
reports. Where one fails, the others end with its message within seconds: they would wait for it in
a collective. Of a process that is killed outright the coordination service of JAX tells, after the
time that it may be silent.
"""

from __future__ import annotations

import collections
import contextlib
import glob
import importlib.util
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn

import jax
import rich.console

from vljepa_jax.config import ConfigError
from vljepa_jax.parallel.processes import coordination, wait_for_all

Launcher = Literal["environment", "slurm", "open_mpi", "tpu"]


def launcher(environment: Mapping[str, str]) -> Launcher | None:
    """The launcher that started this process as one of several; ``None`` where none did.

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


_SILENT = 30  # seconds without a heartbeat after which a process counts as dead
_LOOK = 2.0  # seconds between two looks whether another process has failed
_FAILED, _LEFT = "vljepa_jax/failed/", "vljepa_jax/left/"  # keys, one a process


@contextlib.contextmanager
def job(*, saves_on_sigterm: bool = False) -> Iterator[None]:
    """Joins the other processes of this job, where there are any, and ends together with them.

    Within, a process that fails ends all others with its message, and SIGTERM is a failure.

    Args:
        saves_on_sigterm: what runs within looks for SIGTERM itself, as ``train`` does.

    Raises:
        ConfigError: see ``initialise``; or some processes have more devices than others.
    """
    jax.config.update("jax_enable_preemption_service", saves_on_sigterm)  # it takes SIGTERM away
    initialise()
    if not jax.distributed.is_initialized():
        yield
        return
    _check_devices([device.process_index for device in jax.devices()])
    with _Failures(sigterm=not saves_on_sigterm) as failures:
        try:
            yield
        except SystemExit as end:
            if isinstance(end.code, str):
                failures.tell(end, end.code)
            wait_for_all()  # a status is what all of them end with
            raise
        except KeyboardInterrupt as stopped:
            failures.tell(stopped, f"error: {stopped}")
        except BaseException as error:
            failures.tell(error, f"{type(error).__name__}: {error}")
        wait_for_all()


def _check_devices(owners: Sequence[int]) -> None:
    """Raises ConfigError unless all processes have as many devices; ``owners``: of each device."""
    counts = collections.Counter(owners)
    if len(set(counts.values())) > 1:
        raise ConfigError(
            f"the processes of this job have {', '.join(map(str, counts.values()))} devices; "
            "JAX takes as many from each: start them alike (CUDA_VISIBLE_DEVICES, "
            "JAX_NUM_CPU_DEVICES)"
        )


class _Failures:
    """Tells the other processes of a failure here, and ends this one after a failure there."""

    def __init__(self, *, sigterm: bool) -> None:
        """``sigterm``: whether this signal is a failure."""
        self._wakes, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        if sigterm:
            # The main thread may wait for others outside Python, where no handler would run.
            signal.signal(signal.SIGTERM, lambda number, frame: None)
            signal.set_wakeup_fd(self._wake.fileno())
        self._client = coordination()
        self._index, self._count = jax.process_index(), jax.process_count()
        self._ending = threading.Lock()  # held by the thread that ends the process
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Failures:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        signal.set_wakeup_fd(-1)
        self._stopped.set()
        self._wake.send(b"\0")
        self._thread.join()

    def tell(self, error: BaseException, message: str) -> NoReturn:
        """Ends this process because of ``error``, and by ``message`` the others."""
        if isinstance(error, SystemExit | KeyboardInterrupt):
            print(message, file=sys.stderr, flush=True)
        else:
            traceback.print_exception(error)
        if _of_a_collective(error):
            # Likely the echo of another's end. Who that was is told by itself or, if it was killed,
            # by the coordination service, which ends this process.
            time.sleep(_SILENT + 2 * _LOOK)
        self._fail(message)

    def _fail(self, message: str) -> NoReturn:
        self._ending.acquire()
        who = f"process {self._index} of {self._count} on {socket.gethostname()}"
        self._client.key_value_set(f"{_FAILED}{self._index}", f"{who} has failed: {message}")
        self._leave()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            woken, _, _ = select.select([self._wakes], [], [], _LOOK)
            if woken and signal.SIGTERM in self._wakes.recv(64):
                print("error: ended by SIGTERM", file=sys.stderr, flush=True)
                self._fail("error: ended by SIGTERM")
            failed = self._client.key_value_dir_get(_FAILED)
            if failed and self._ending.acquire(blocking=False):
                for _, message in sorted(failed):
                    print(message, file=sys.stderr, flush=True)
                self._leave()

    def _leave(self) -> NoReturn:
        """Ends the process at once: its main thread may wait in a collective for ever."""
        self._client.key_value_set(f"{_LEFT}{self._index}", "")
        if self._index == 0:  # what they tell each other lies here
            latest = time.monotonic() + 10 * _LOOK
            while time.monotonic() < latest:
                if len(self._client.key_value_dir_get(_LEFT)) == self._count:
                    break
                time.sleep(0.1)
        for child in multiprocessing.active_children():
            child.terminate()
        rich.console.Console(stderr=True).show_cursor()  # a progress bar hides it
        sys.stdout.flush()
        os._exit(1)


def _of_a_collective(error: BaseException | None) -> bool:
    """Whether the runtime has raised it, or what it came from."""
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            return True
        error = error.__cause__ or error.__context__
    return False


def initialise() -> None:
    """Joins the other processes of this job, where there are any; before JAX is used otherwise.

    Raises:
        ConfigError: JAX_COORDINATOR_ADDRESS is set without the other two variables.
    """
    found = launcher(os.environ)
    if found is None:
        return
    if found != "environment":
        # It reads what this launcher leaves.
        jax.distributed.initialize(heartbeat_timeout_seconds=_SILENT)
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
        heartbeat_timeout_seconds=_SILENT,
    )


def _many(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").isdigit() and int(environment[name]) > 1


def _has_tpu() -> bool:
    """Device files of a TPU, under the names of older and newer generations."""
    return bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))
