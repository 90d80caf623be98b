"""Exact search among a million embeddings: how much memory it takes, and that it finds the nearest.

    python benchmarks/exact_search.py
    python benchmarks/exact_search.py --items=100000 --queries=10000

Random unit vectors lie in a temporary file, which is mapped; each query is one of them with noise,
so that it is known which it must find. Printed are the megabytes that the search took at most
beside the file's pages, which the system may drop, those of the embeddings, and the share of
queries that found their own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from vljepa_jax import host
from vljepa_jax.inference.search.exact import rank

_ROWS = 10_000  # made at a time


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000, help="%(default)s")
    parser.add_argument("--size", type=int, default=1_536, help="%(default)s")
    parser.add_argument("--queries", type=int, default=256, help="%(default)s")
    parser.add_argument("--directory", help="of the temporary file")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = Path(directory) / "items.npy"
        shape = (options.items, options.size)
        items = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for start in range(0, options.items, _ROWS):
            rows = rng.standard_normal(
                (min(_ROWS, options.items - start), options.size), np.float32
            )
            items[start : start + _ROWS] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        items.flush()
        items = np.load(path, mmap_mode="r")
        own = rng.choice(options.items, options.queries, replace=False)
        # Twice as much noise as vector: a cosine of 0.45, where others reach 0.1.
        noise = rng.standard_normal((options.queries, options.size), np.float32)
        queries = items[own] + 2 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        before = own_memory()
        with Watched() as watched:
            found = rank(queries, items, [{int(row)} for row in own], 10)
    report = {
        "items": options.items,
        "size": options.size,
        "queries": options.queries,
        "embeddings_megabytes": round(items.nbytes / 2**20),
        "taken_megabytes": round(watched.peak - before),
        "found_first": float(np.mean(found.ranks == 0)),
        "nearest_is_own": float(np.mean(found.nearest.rows[:, 0] == own)),
    }
    print(json.dumps(report, indent=2))


class Watched:
    """The most memory that this process has of its own, looked at a hundred times a second."""

    def __enter__(self) -> Watched:
        self.peak, self._ends = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ends.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ends.is_set():
            self.peak = max(self.peak, own_memory())
            time.sleep(0.01)


def own_memory() -> float:
    """Megabytes of this process but for mapped files, where Linux tells them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("RssAnon")]
    return int(kilobytes) / 1024


if __name__ == "__main__":
    host.set_up()
    main()
