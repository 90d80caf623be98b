"""Opening, and reaching any position of, training data that need not be there: seconds and memory.

    python benchmarks/loading.py
    python benchmarks/loading.py --records=1400000000 --of_a_part=10000 --processes=16

A dataset's metadata is written for so many records, without its parts. It is opened as training
opens it, the mixture is sent to loading processes, and each of them looks up positions up to the
last step of the recipe's image stage, as far as the record's index and the file that it lies in:
the metadata says that all records are training examples, so that no table is read. The JSON that is
printed has seconds, of the clock and of the processor, and the memory that all processes of a host
hold together, before the dataset is opened (Python and its libraries) and after: of each the bytes
that are its own, and of the bytes that are shared its part (Linux's "proportional set size").
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import pathlib
import pickle
import random
import tempfile
import threading
import time

import vljepa_jax.commands  # noqa: F401 (first, as in the loading processes of a command)
from vljepa_jax.data.light_grain import announce
from vljepa_jax.data.mixture import MixedSource, Mixture
from vljepa_jax.data.parts import Part
from vljepa_jax.data.shards import ChosenRecords
from vljepa_jax.data.storage import open_dataset, write_metadata

_STEPS, _BATCH = 100_000, 24_576  # of configs/vljepa_1b.py:image
_LOOKED_UP = 1000  # positions, in each process


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_400_000_000, help="%(default)s")
    parser.add_argument("--of_a_part", type=int, default=10_000, help="records; %(default)s")
    parser.add_argument("--processes", type=int, default=16, help="that load; %(default)s")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder)
        count = -(-options.records // options.of_a_part)
        _write(directory, options, count)
        announce()
        context = multiprocessing.get_context("spawn")
        everyone = context.Barrier(options.processes + 1)
        with concurrent.futures.ProcessPoolExecutor(
            options.processes, context, _keep, (everyone,)
        ) as pool:
            waiting = [pool.submit(_wait, index) for index in range(options.processes)]
            everyone.wait()
            concurrent.futures.wait(waiting)
            before = _memory_of_all()
            clock, processor = time.perf_counter(), time.process_time()
            annotations = open_dataset(directory).annotations("train")
            records = annotations.records(annotations.tasks(trainable=True), trainable=True)
            sources = [MixedSource(len(records), 14.0), MixedSource(99_000_000, 1.0)]
            clock, processor = time.perf_counter() - clock, time.process_time() - processor
            sent = len(pickle.dumps((records, sources)))
            futures = [pool.submit(_look_up, records, sources) for _ in range(options.processes)]
            everyone.wait()  # all of them hold what they were sent, and so does this process
            memory = _memory_of_all()
            everyone.wait()
            found = [future.result() for future in futures]
    ready, first, any_other, last = (max(values) for values in zip(*found, strict=True))
    report = {
        "records": len(records),
        "parts": count,
        "processes": options.processes,
        "opened_seconds": round(clock, 2),
        "opened_processor_seconds": round(processor, 2),
        "sent_bytes": sent,
        "host_mib_before": before >> 20,
        "host_mib": memory >> 20,
        "of_a_process": {
            "ready_processor_seconds": round(ready, 3),
            "processor_microseconds_a_lookup": {
                "first_steps": round(first * 1e6, 1),
                "any_step": round(any_other * 1e6, 1),
                "last_steps": round(last * 1e6, 1),
            },
        },
    }
    print(json.dumps(report, indent=2))


def _write(directory: pathlib.Path, options: argparse.Namespace, count: int) -> None:
    size = options.of_a_part
    part = Part(size, size, ("caption",), False, {"0": size})
    write_metadata(directory, {"train": [part] * count}, name="virtual", description="", labels={})


_everyone: threading.Barrier | None = None  # of a loading process


def _keep(everyone: threading.Barrier) -> None:
    global _everyone
    _everyone = everyone


def _wait(_: int) -> None:
    """Keeps a process until all of them are there."""
    _everyone.wait()


def _look_up(
    records: ChosenRecords, sources: list[MixedSource]
) -> tuple[float, float, float, float]:
    """Seconds until it is ready, and of a lookup: in the first step, in any, and in the last."""
    began = time.process_time()
    order = Mixture(sources, _BATCH, 0)
    ready = time.process_time() - began
    draw = random.Random(0)
    anywhere = [draw.randrange(_STEPS * _BATCH) for _ in range(_LOOKED_UP)]
    last = (_STEPS - 1) * _BATCH
    seconds = [
        _seconds(order, records, indices)
        for indices in (range(_LOOKED_UP), anywhere, range(last, last + _LOOKED_UP))
    ]
    _everyone.wait()
    _everyone.wait()
    return ready, *seconds


def _seconds(order: Mixture, records: ChosenRecords, indices) -> float:
    began = time.process_time()
    for index in indices:
        source, place = order[index]
        if source == 0:
            records[place]
    return (time.process_time() - began) / len(indices)


def _memory_of_all() -> int:
    """Of this process and those that it has started, bytes."""
    total = 0
    for process in [None, *multiprocessing.active_children()]:
        path = pathlib.Path(f"/proc/{process.pid if process else 'self'}/smaps_rollup")
        line = next(line for line in path.read_text().splitlines() if line.startswith("Pss:"))
        total += int(line.split()[1]) << 10
    return total


if __name__ == "__main__":
    main()
