"""What the processes of one job tell each other; a job of one process tells itself."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")


def first_process() -> bool:
    """Whether this is the one that writes what all share, and speaks."""
    return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
    """Of each process, in order, its value. All of them call this at the same point."""
    if jax.process_count() == 1:
        return [value]
    data = pickle.dumps(value)  # it comes from the same program, started by the same hand
    longest = int(multihost_utils.process_allgather(np.int64(len(data))).max())
    everyone = multihost_utils.process_allgather(np.frombuffer(data.ljust(longest), np.uint8))
    return [pickle.loads(each.tobytes()) for each in everyone]


def share(items: Sequence[T]) -> Sequence[T]:
    """The part of a list that is this process's; the parts of all processes make the whole."""
    count, index = jax.process_count(), jax.process_index()
    return items[len(items) * index // count : len(items) * (index + 1) // count]
