"""How time and memory grow: of a training step, of search, of the segmentation of streams.

    python benchmarks/growth.py
    python benchmarks/growth.py --only=search,stream --output=/tmp/growth.json

A step has the demo's widths, from pixels, its layers scanned; its batch, its frames, the length of
its target texts and the layers of each of its parts grow, one at a time. Search is
exact search of 32 texts in an index of embeddings; segmentation is Ward's of a stream, a tick a
row. All in float32 on one processor. Time is the processor's, the least of --repetitions; memory is
what the compiler says that a step's temporaries take, and elsewhere the most that numpy held.
Axes that --output holds already and --only does not name stay as they are.

Each series is fitted with size ** exponent. Beside it stands the exponent of what the algorithm
says, fitted to the same sizes: of a step the operations of its matrix products, counted in the
program; of search the rows; of segmentation n log n. For memory it is 1, but for the block of
scores that search holds whatever the index, 0. "frames" and "text" have attention, whose scores
grow with the square of the tokens. The JSON is written to --output, and a picture of it beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import processor

from vljepa_jax import host
from vljepa_jax.parallel.compilation_cache import keep_compiled

ROOT = Path(__file__).parents[1]
AXES = ("batch", "frames", "text", "layers", "search", "stream")
SIZES = {
    "batch": (8, 16, 32),
    "frames": (8, 16, 32),
    "text": (36, 72, 144),
    "layers": (2, 4, 8),
    "search": (10_000, 20_000, 40_000, 80_000, 160_000),
    "stream": (1_000, 2_000, 4_000, 8_000, 16_000),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(AXES), help="%(default)s")
    parser.add_argument("--repetitions", type=int, default=5, help="of each; %(default)s")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/figures/growth.json")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.only.split(",")) - set(AXES)):
        parser.error(f"--only: no {', '.join(unknown)}; there are {', '.join(AXES)}")
    return chosen


@dataclasses.dataclass(frozen=True)
class Point:
    """What one size takes.

    Attributes:
        seconds: of the processor.
        mebibytes: of memory.
        operations: what the algorithm says that the time is proportional to.
    """

    seconds: float
    mebibytes: float
    operations: float


def main() -> None:
    options = arguments()
    keep_compiled()  # the parameters' initialisation is that of many sizes
    series = {}
    if options.output.is_file():  # the axes that an earlier run measured
        series = json.loads(options.output.read_text())["series"]
    for axis in options.only.split(","):
        series[axis] = grown(axis, SIZES[axis], options.repetitions)
        report = {"machine": processor(), "series": series}
        options.output.write_text(json.dumps(report, indent=2) + "\n")
        draw(series, options.output.with_suffix(".png"))


def grown(axis: str, sizes: Sequence[int], repetitions: int) -> dict[str, Any]:
    """What each size of an axis takes, and the exponents of their growth."""
    measure = {"search": _search, "stream": _stream}.get(axis)
    points = []
    for size in sizes:
        found = measure(size, repetitions) if measure else _step(axis, size, repetitions)
        points.append(found)
        print(axis, size, found, flush=True)
    columns = {
        field.name: [getattr(point, field.name) for point in points]
        for field in dataclasses.fields(Point)
    }
    return {
        "sizes": list(sizes),
        "seconds": [float(f"{s:.4g}") for s in columns["seconds"]],
        "mebibytes": [float(f"{m:.4g}") for m in columns["mebibytes"]],
        "repetitions": repetitions,
        "exponent_of_time": round(exponent(sizes, columns["seconds"]), 2),
        "exponent_of_operations": round(exponent(sizes, columns["operations"]), 2),
        "exponent_of_memory": round(exponent(sizes, columns["mebibytes"]), 2),
    }


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The p of values = c * sizes ** p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _least(work: Callable[[], object], repetitions: int) -> float:
    """Seconds of the processor."""
    work()  # compiles, and takes its memory
    taken = []
    for _ in range(repetitions):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def _step(axis: str, size: int, repetitions: int) -> Point:
    from speed_features import Step, small

    from vljepa_jax.training.flops import model_flops

    config = _sized(small(), axis, size)
    step = Step(config)
    return Point(
        _least(step, repetitions),
        step.memory.temp_size_in_bytes / 2**20,
        model_flops(config),
    )


def _sized(config: Any, axis: str, size: int) -> Any:
    """The demo's recipe with a batch of 16, and this size of the axis."""
    model = dataclasses.replace(config.model, unroll_layers=False)
    parts = {
        name: dataclasses.replace(getattr(model, name), num_layers=size)
        for name in ("x_encoder", "predictor", "y_encoder")
        if axis == "layers"
    }
    if "predictor" in parts:
        parts["predictor"] = dataclasses.replace(parts["predictor"], first_layer=0)
    data = config.data
    if axis == "frames":
        data = dataclasses.replace(data, video=dataclasses.replace(data.video, frames=size))
    if axis == "text":
        data = dataclasses.replace(data, text=dataclasses.replace(data.text, target_length=size))
    return dataclasses.replace(
        config,
        batch_size=size if axis == "batch" else 16,
        model=dataclasses.replace(model, **parts),
        data=data,
    )


def _search(rows: int, repetitions: int) -> Point:
    from vljepa_jax.inference.search.exact import nearest

    index, texts = _units(rows), _units(32)
    seconds = _least(lambda: nearest(texts, [index], 10), repetitions)
    return Point(seconds, _most_held(lambda: nearest(texts, [index], 10)), rows)


def _stream(ticks: int, repetitions: int) -> Point:
    from vljepa_jax.inference.streams.segmentation import ward_tree

    # Steps around a centre, as the embeddings of a video; white noise would merge in one run.
    walk = np.cumsum(_units(ticks), axis=0, dtype=np.float32)
    seconds = _least(lambda: ward_tree(walk), repetitions)
    return Point(seconds, _most_held(lambda: ward_tree(walk)), ticks * np.log(ticks))


def _units(rows: int) -> np.ndarray:
    found = np.random.default_rng(rows).standard_normal((rows, 192), np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _most_held(work: Callable[[], object]) -> float:
    """The most memory that Python and numpy held at once, in MiB, of what ``work`` takes."""
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 2**20


# ---------------------------------------------------------------------------------------------
# The picture
# ---------------------------------------------------------------------------------------------
TITLES = {
    "batch": "a step against the batch",
    "frames": "a step against frames",
    "text": "a step against text tokens",
    "layers": "a step against layers",
    "search": "search against the index",
    "stream": "segmentation against the stream",
}


def draw(series: dict[str, Any], path: Path) -> None:
    """Time and memory of each axis on logarithmic scales, with the exponents."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.0 * -(-len(series) // 3)), layout="constrained")
    grid = figure.subplots(-(-len(series) // 3), 3, squeeze=False).ravel()
    for unused in grid[len(series) :]:
        unused.set_axis_off()
    for axes, (axis, found) in zip(grid, series.items(), strict=False):
        memory = axes.twinx()
        for place, name, colour, label in (
            (
                axes,
                "seconds",
                "#3b82f6",
                "time ~ size^{exponent_of_time} ({exponent_of_operations})",
            ),
            (memory, "mebibytes", "#e0703a", "memory ~ size^{exponent_of_memory}"),
        ):
            place.loglog(found["sizes"], found[name], "o-", color=colour, ms=3)
            place.minorticks_off()
            ends = min(found[name]), max(found[name])
            place.set_yticks(ends, [f"{end:.3g}" for end in ends], fontsize=7, color=colour)
            axes.plot([], [], "o-", color=colour, ms=3, label=label.format(**found))
        axes.set_title(TITLES[axis], fontsize=9)
        axes.set_xticks(found["sizes"], [f"{size:,}" for size in found["sizes"]], fontsize=7)
        axes.legend(fontsize=7, frameon=False)
    figure.suptitle("seconds (left) and MiB (right); in brackets, of the operations", fontsize=9)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # before jax starts its threads
    host.set_up()
    main()
