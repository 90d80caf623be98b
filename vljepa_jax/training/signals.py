"""SIGTERM and SIGINT in a training run: the running step ends, and is saved."""

from __future__ import annotations

import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopSignals:
    """Remembers the first SIGTERM or SIGINT instead of dying by it; the second one ends at once.

    Attributes:
        received: the signal, or ``None``.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def stop_after(self, step: int) -> bool:
        """Whether this step is the last; every process of a run asks after every step.

        Of several processes one may have the signal alone, and all must stop after one step, as
        they save together: that is agreed upon by JAX, which listens to SIGTERM itself.
        """
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.received = signal.SIGTERM
        return self.received is not None

    def __enter__(self) -> StopSignals:
        # In another thread Python forbids it.
        alone = jax.process_count() == 1
        if alone and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        del frame
        self.received = signal.Signals(number)
        signal.signal(number, self._previous[self.received])
