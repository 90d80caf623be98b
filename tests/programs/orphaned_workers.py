"""Run by test_ownership.py: has workers of a kind at work, prints who they are, and waits."""

import functools
import multiprocessing
import os
import sys
import time

import numpy as np

from vljepa_jax.data.process_pool import ProcessPool
from vljepa_jax.data.workers import in_workers
from vljepa_jax.ownership import shared_memory_prefix


def own_id(item):
    time.sleep(0.01)
    return os.getpid()


def large_arrays(items):
    time.sleep(0.01)
    return [np.full(2**20, os.getpid()) for _ in items]


def main(kind):
    found = set()
    if kind == "pool":
        with ProcessPool(2) as pool:
            for pid in pool.map(own_id, range(10**6)):
                tell(found, pid)
    else:
        for array in in_workers(functools.partial(large_arrays), range(10**6), 2):
            tell(found, int(array[0]))


def tell(found, pid):
    found.add(pid)
    if len(found) == 2:
        children = {child.pid for child in multiprocessing.active_children()}
        print(shared_memory_prefix(), *(found | children), flush=True)
        time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
