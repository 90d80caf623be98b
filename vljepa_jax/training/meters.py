"""Meters of a running step: utilisation, memory, and a profile of chosen steps."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.parallel.chips import chip_of
from vljepa_jax.training.flops import model_flops

_GIB = 2.0**30


class Meter:
    """Rates and memory of this run's devices and of this process."""

    def __init__(self, config: TrainConfig, devices: list[Any]) -> None:
        """``devices``: of the mesh, those of other processes included."""
        chip = chip_of(devices[0])
        self._devices = [device for device in devices if device.process_index == _process()]
        # Counting takes seconds, and says nothing where the peak is unknown (a CPU).
        self._peak = None if chip is None else chip.flops * len(devices)
        self._flops = 0.0 if chip is None else model_flops(config)

    def measure(self, steps: int, seconds: float) -> dict[str, float]:
        """Metrics of ``steps`` updates that took ``seconds``.

        mfu: model-FLOPs utilisation (Chowdhery et al. 2022): the model's own arithmetic, nothing
            recomputed, as a share of the devices' peak; only where the peak is known.
        memory/device_gib: the most that a device of this process held so far; only where the
            device tells.
        memory/host_gib: the most that this process held so far.
        """
        metrics = {"memory/host_gib": _most_of_host() / _GIB}
        if self._peak is not None:
            metrics["mfu"] = self._flops * steps / seconds / self._peak
        held = [device.memory_stats() for device in self._devices]
        if all(held):
            metrics["memory/device_gib"] = max(each["peak_bytes_in_use"] for each in held) / _GIB
        return metrics


def _process() -> int:
    return jax.process_index()


def _most_of_host() -> float:
    """Bytes; Linux counts in KiB, macOS in bytes."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else most * 1024)


def parse_steps(text: str) -> tuple[int, int] | None:
    """ "100-105" -> (100, 105); "" -> ``None``.

    Raises:
        ConfigError: it is neither.
    """
    if not text:
        return None
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--profile: '{text}' is no range of steps, such as 100-105")
    return int(match[1]), int(match[2])


class Profile:
    """Traces the steps first .. last, by JAX's profiler, once.

    Viewed by ``tensorboard --logdir RUN/profile`` with its profile plugin, or ui.perfetto.dev.
    """

    def __init__(self, run_dir: Path, steps: tuple[int, int] | None) -> None:
        self._directory = run_dir / "profile"
        self._steps = steps
        self._running = False

    def before(self, step: int) -> None:
        if self._steps is not None and step == self._steps[0]:
            jax.profiler.start_trace(str(self._directory))
            self._running = True

    def after(self, step: int, wait: Callable[[], Any]) -> None:
        """``wait`` returns when the step is done; it is called after the last traced step alone."""
        if self._running and step == self._steps[1]:
            wait()
            self.close()

    def close(self) -> None:
        """Writes what is traced so far; a run may end within the range."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
