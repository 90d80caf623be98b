"""Messages between the processes of one job; a job of one process talks to itself.

All processes call each of these functions at the same point, unless it says otherwise.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import rich.console
import rich.text
from jax._src import distributed
from jax.experimental import multihost_utils

from vljepa_jax.config import ConfigError
from vljepa_jax.ownership import LOCK, owned
from vljepa_jax.places import AnyPath, make_directory, place

T = TypeVar("T")
S = TypeVar("S")

# That others are at work is no reason to give up on them; that they are not shows otherwise.
_LONGEST_WAIT = 7 * 24 * 3600 * 1000  # milliseconds
_VISIBLE_WITHIN = 30.0  # seconds after which a network disk shows what another host wrote
_numbers = itertools.count()
_said: list[str] = []  # by the first process, and perhaps not yet read by all


def first_process() -> bool:
    """Whether this is the one that writes what all share, and speaks; callable anywhere."""
    return jax.process_index() == 0


def coordination() -> Any:
    """The client of the service that keeps small values for all processes; callable anywhere.

    JAX has no public name for it, as Orbax, which uses it too, knows.
    """
    return distributed.global_state.client


def wait_for_all() -> None:
    """Returns when all processes are here, however long that takes.

    A collective of devices would give up on a process that works for long.
    """
    if jax.process_count() == 1:
        return
    coordination().wait_at_barrier(f"vljepa_jax/{next(_numbers)}", _LONGEST_WAIT)
    while _said:
        coordination().key_value_delete(_said.pop())


def gather(value: T) -> list[T]:
    """Of each process, in order, its value."""
    if jax.process_count() == 1:
        return [value]
    wait_for_all()
    data = pickle.dumps(value)  # it comes from the same program, started by the same hand
    longest = int(multihost_utils.process_allgather(np.int64(len(data))).max())
    everyone = multihost_utils.process_allgather(np.frombuffer(data.ljust(longest), np.uint8))
    return [pickle.loads(each.tobytes()) for each in everyone]


def of_first(make: Callable[[], T]) -> T:
    """Calls ``make`` in the first process alone and gives its small value to all.

    It passes by the service and not by devices, so that no device waits for it.
    """
    if jax.process_count() == 1:
        return make()
    key = f"vljepa_jax/of_first/{next(_numbers)}"
    if first_process():
        value = make()
        coordination().key_value_set_bytes(key, pickle.dumps(value))
        _said.append(key)
        return value
    return pickle.loads(coordination().blocking_key_value_get_bytes(key, _LONGEST_WAIT))


@contextlib.contextmanager
def owned_by_first(
    directory: AnyPath, console: rich.console.Console, *, name: str = LOCK
) -> Iterator[None]:
    """The first process owns a directory for the whole job (``ownership.owned``).

    Args:
        console: tells where nothing can be owned.
        name: of the lock, as there.

    Raises:
        InUse: in the first process, where another job owns it; ``distributed.job`` ends the others.
    """

    def tell(text: str) -> None:
        console.print(rich.text.Text(f"Warning: {text}.", "yellow"), soft_wrap=True)

    with owned(directory, name=name, tell=tell) if first_process() else contextlib.nullcontext():
        wait_for_all()
        yield


def share(items: Sequence[T]) -> Sequence[T]:
    """The part of a list that is this process's; the parts of all processes make the whole."""
    count, index = jax.process_count(), jax.process_index()
    return items[len(items) * index // count : len(items) * (index + 1) // count]


def divided(function: Callable[[Sequence[T]], Sequence[S]], items: Sequence[T]) -> list[S]:
    """``function`` of all items, a result each: every process computes those of its share."""
    return [result for part in gather(list(function(share(items)))) for result in part]


def rounds(items: Iterator[T]) -> Iterator[list[T]]:
    """Yields the next item of every process, in their order, until none has anything."""
    while found := [item for each in gather(list(itertools.islice(items, 1))) for item in each]:
        yield found


def require_same(what: str, value: Any) -> None:
    """Raises ConfigError, with the processes' hosts, where they do not agree on ``value``."""
    found = gather((socket.gethostname(), value))
    for index, (host, other) in enumerate(found):
        if other != found[0][1]:
            raise ConfigError(
                f"{what}: {found[0][1]} in process 0 on {found[0][0]}, but {other} in process "
                f"{index} on {host}; all processes of a job must see the same files"
            )


def require_shared(directory: str | os.PathLike[str]) -> None:
    """Makes sure that all processes see one directory, which is made where it is not there.

    Raises:
        ConfigError: some do not; the message names them.
    """
    if jax.process_count() == 1:
        return
    directory = place(directory)
    path = directory / f".job-{of_first(lambda: secrets.token_hex(8))}"
    if first_process():
        make_directory(directory)
        path.touch()
    wait_for_all()
    latest = time.monotonic() + _VISIBLE_WITHIN
    while not (seen := path.exists()) and time.monotonic() < latest:
        time.sleep(1)
    hosts = gather((socket.gethostname(), seen))
    if first_process():
        path.unlink()
    blind = [f"{index} on {host}" for index, (host, seen) in enumerate(hosts) if not seen]
    if blind:
        raise ConfigError(
            f"'{directory}' is not one directory for all processes of the job: a file that process "
            f"0 on {hosts[0][0]} wrote there is not seen by {', '.join(blind)}. Name one on a disk "
            "that all hosts share"
        )
