"""How long an index of a million windows takes to answer, and how much memory.

    python benchmarks/index_search.py --size=192 --output=docs/figures/index_search.json
    python benchmarks/index_search.py --size=1536 --modes=mapped

Clips of a thousand windows, random unit vectors, are written as launch/embed.py writes them. Each
query is one of the vectors with noise, so that it is known which it must find; the hits are folded
as launch/search.py folds them. "mapped" reads the files at each search, "resident" leaves them on
the device at the first. Printed are the seconds of opening the index, of the first search and of
the others (median, least and most of --queries, and the median of the processors' time, which other
programs disturb less), the megabytes that searches took beside mapped files, and the share of
queries that found their own.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from exact_search import Watched, own_memory

from vljepa_jax import host
from vljepa_jax.data.collection import Item
from vljepa_jax.data.records import Medium
from vljepa_jax.inference.search.hits import FOLD
from vljepa_jax.inference.search.index import Entry, IndexSettings, IndexWriter, VideoIndex

_WINDOWS = 1_000  # of a clip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clips", type=int, default=1_000, help="of a thousand windows: %(default)s"
    )
    parser.add_argument("--size", type=int, default=1_536, help="%(default)s")
    parser.add_argument("--queries", type=int, default=20, help="%(default)s")
    parser.add_argument("--modes", default="mapped,resident", help="%(default)s")
    parser.add_argument("--directory", help="of the temporary index")
    parser.add_argument("--output", help="a JSON file, to which these figures are added")
    options = parser.parse_args()
    report = {"windows": options.clips * _WINDOWS, "size": options.size, "device": _device()}
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        queries, own = _write(directory, options)
        for mode in options.modes.split(","):
            report[mode] = _measure(directory, queries, own, resident=mode == "resident")
    print(json.dumps(report, indent=2))
    if options.output:
        path = Path(options.output)
        figures = json.loads(path.read_text()) if path.exists() else {}
        figures |= {f"{report['windows']}x{options.size}": report}
        path.write_text(json.dumps(figures, indent=2) + "\n")


def _write(directory: str, options: argparse.Namespace) -> tuple[np.ndarray, list[tuple]]:
    """Writes the index; gives queries, and the (name, start) that each must find."""
    rng = np.random.default_rng(0)
    settings = IndexSettings("random", options.size, "", 8, 2.0, 2.0)
    spans = tuple((2.0 * i, 2.0 * i + 2) for i in range(_WINDOWS))
    queries, own = [], []
    with IndexWriter(directory, settings, "") as index:
        for clip in range(options.clips):
            rows = _unit(rng.standard_normal((_WINDOWS, options.size), np.float32))
            name = f"/footage/{clip:04d}.mp4"
            index.add([Entry(Item(name, (Medium(path=name),)), "1", spans)], rows)
            if clip % max(1, options.clips // options.queries) == 0:
                place = int(rng.integers(_WINDOWS))
                # Twice as much noise as vector: a cosine of 0.45, where others reach 0.1 to 0.4.
                noise = _unit(rng.standard_normal((1, options.size), np.float32))
                queries.append(_unit(rows[place : place + 1] + 2 * noise))
                own.append((name, spans[place][0]))
    return np.concatenate(queries[: options.queries]), own[: options.queries]


def _measure(directory: str, queries: np.ndarray, own: list[tuple], *, resident: bool) -> dict:
    began = time.perf_counter()
    index = VideoIndex(directory, resident=resident)
    opened = time.perf_counter() - began
    before = own_memory()
    seconds, busy, right = [], [], 0
    with Watched() as watched:
        for query, (name, start) in zip(queries, own, strict=True):
            began, worked = time.perf_counter(), time.process_time()
            (hits,) = index.search(query[None], 10, fold=FOLD)
            seconds.append(time.perf_counter() - began)
            busy.append(time.process_time() - worked)
            right += (hits[0].name, hits[0].start) == (name, start)
    first, *others = seconds
    return {
        "seconds_to_open": round(opened, 3),
        "seconds_first": round(first, 3),
        "seconds_median": round(statistics.median(others), 3),
        "seconds_least": round(min(others), 3),
        "seconds_most": round(max(others), 3),
        "processor_seconds_median": round(statistics.median(busy[1:]), 3),
        "megabytes": round(watched.peak - before),
        "found_first": right / len(own),
    }


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _device() -> str:
    device = jax.devices()[0]
    return (
        f"{host.host_cpus()} CPUs, {platform.machine()}"
        if device.platform == "cpu"
        else device.device_kind
    )


if __name__ == "__main__":
    host.set_up()
    main()
