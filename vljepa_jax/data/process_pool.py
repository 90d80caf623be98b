"""Maps a function over items in other processes: in order, and a bounded way ahead.

For what is written (records made or checked). Arrays that are decoded for a model come through
``workers``, where Grain hands them over in shared memory.
"""

from __future__ import annotations

import collections
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from vljepa_jax.ownership import shared_memory_prefix

T = TypeVar("T")
U = TypeVar("U")

# Items that a process has in hand and those that wait, per process: bounds the memory.
_AHEAD = 4


class ProcessPool:
    """A context manager, within which ``map`` may be called several times.

    Args:
        count: processes; 0 maps in this one.
    """

    def __init__(self, count: int):
        self._count = count

    def __enter__(self) -> ProcessPool:
        if self._count:
            shared_memory_prefix()
            # Not forked from this one: a forked copy of a process with threads may hang.
            context = multiprocessing.get_context("forkserver")
            self._executor = ProcessPoolExecutor(self._count, context, initializer=end_with_parent)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._count:
            self._executor.shutdown(cancel_futures=True)

    def map(self, function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """Yields the results in order.

        Raises:
            ChildProcessError: a process was ended from outside.
        """
        if not self._count:
            yield from map(function, items)
            return
        pending: collections.deque[Future[U]] = collections.deque()
        try:
            for item in items:
                pending.append(self._executor.submit(function, item))
                if len(pending) >= self._count * _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a process that reads media was ended from outside, perhaps for want of memory: "
                "start again, with fewer processes if it was"
            ) from error


def end_with_parent() -> None:
    """Makes this process, started by ``multiprocessing``, end when the one that started it has.

    A parent that is killed tells nobody. Ctrl-C, which goes to both, is the parent's to answer.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])  # readable when it has ended
        os._exit(1)  # the main thread may wait for ever for what only the parent can send

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
