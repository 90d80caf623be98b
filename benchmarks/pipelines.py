"""Evaluation, embedding and streaming against what decoding and encoding allow together.

    python benchmarks/pipelines.py --checkpoint=runs/demo
    python benchmarks/pipelines.py --checkpoint=runs/demo --dataset=@world --clips=512
    python benchmarks/pipelines.py --checkpoint=runs/sft --dataset=data/msvd --only=evaluation

Without --dataset the files are made on the spot: H.264 of 854 x 480 pixels, 24 frames a second.

    evaluation    what ``launch/eval.py`` does with clips that no cache has: decode, encode,
                  predict, a vector a clip; of a dataset's records
    embedding     ``model.embed_video(paths, question)``; of files
    streaming     ``embed_stream``, a window of --window seconds each half second; of one file that
                  is as long as all together

Alone, the same clips or windows are decoded and dropped, and those in memory are encoded. End to
end cannot be faster than the slower of both, nor than the processors can do both: of either, the
seconds of processors are counted too. The three take turns, every other time in reverse, so that
what else the machine does falls on each alike. The JSON that is printed holds of each the median of
the ratios of one turn, then the quartiles:

    end_to_end_over_allowed   1 is as fast as decoding and encoding allow together
    work_alone_over_together  the same of the seconds of processors: 1 if the pipeline adds no work
    decoding_over_encoding    seconds of a clip, each alone
    processors_had            the share of all processors that the pipeline had, end to end

On a machine that does other things, too, the first tells of these as well, and the last how much
they left; the second hardly depends on them. The first batch is decoded before anything can be
embedded, and the last embedded when nothing is left to decode: so many batches are needed that this
does not count.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from footage import write_clip
from machine import processor
from recipes import recipe

import vljepa_jax
from vljepa_jax import host
from vljepa_jax.config import EvalConfig
from vljepa_jax.data.records import Annotation, ClipError, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.embed import embed
from vljepa_jax.evals.examples import ClipRef
from vljepa_jax.evals.protocols.base import Needs
from vljepa_jax.inference.streams.embed_stream import embed_stream, play_windows
from vljepa_jax.inference.streams.windows import SlidingWindow, Window
from vljepa_jax.inference.videos import read_video

QUERY = "What is the action shown?"
KINDS = ("evaluation", "embedding", "streaming")
TICKS_PER_SECOND = 2.0  # launch/stream.py's


@dataclasses.dataclass(frozen=True)
class Work:
    """The same clips: decoded alone, encoded alone, and both."""

    clips: int
    decode: Callable[[], None]
    encode: Callable[[], None]
    both: Callable[[], None]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--only", choices=KINDS, help="one of them; all, or that of a dataset")
    parser.add_argument("--dataset", help="a prepared dataset, or @world, instead of made files")
    parser.add_argument("--split", default="test", help="of the dataset; %(default)s")
    parser.add_argument("--clips", type=int, default=64, help="of a turn, at most; %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a made file; %(default)s")
    parser.add_argument("--window", type=float, default=2.0, help="seconds; %(default)s")
    parser.add_argument("--batch_size", type=int, default=8, help="%(default)s")
    parser.add_argument(
        "--num_workers", type=int, default=0, help="of evaluation, that decode; %(default)s"
    )
    parser.add_argument("--repetitions", type=int, default=9, help="turns; %(default)s")
    options = parser.parse_args()
    if options.dataset and options.only not in (None, "evaluation"):
        parser.error(f"--dataset: {options.only} is of files")
    return options


def main() -> None:
    options = arguments()
    model = vljepa_jax.load(options.checkpoint, batch_size=options.batch_size)
    if options.dataset:
        report = measured(evaluation(model, options.dataset, options), options.repetitions)
        print(json.dumps({"evaluation": report} | conditions(options), indent=2))
        return
    works = {"evaluation": made_evaluation, "embedding": embedding, "streaming": streaming}
    kinds = (options.only,) if options.only else KINDS
    with tempfile.TemporaryDirectory() as directory:
        report = {
            kind: measured(works[kind](model, Path(directory), options), options.repetitions)
            for kind in kinds
        }
    print(json.dumps(report | conditions(options), indent=2))


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "batch_size": options.batch_size,
        "num_workers": options.num_workers,
        "repetitions": options.repetitions,
        "processor": processor(),
        "processors": host.available_cpus(),
    }


def evaluation(model: vljepa_jax.Model, path: str, options: argparse.Namespace) -> Work:
    world = recipe("configs/eval/world.py", kind=EvalConfig).world
    datasets = Datasets(world, options.num_workers)
    records = datasets[path].splits[options.split]
    clips = [
        ClipRef(path, options.split, record, (0,)) for record in range(min(records, options.clips))
    ]
    needs = Needs(frozenset((clip, QUERY) for clip in clips))

    decoded = [
        clip for _, clip in datasets.decode(clips, model.video) if not isinstance(clip, ClipError)
    ]
    return Work(
        len(clips),
        lambda: _drop(datasets.decode(clips, model.video)),
        encoding(model, decoded),
        lambda: embed(model, needs, datasets, None, model.video),
    )


def made_evaluation(model: vljepa_jax.Model, directory: Path, options: argparse.Namespace) -> Work:
    paths = made_files(directory / "clips", options.clips, options.seconds)
    records = [
        Record(
            path.stem,
            (Medium(data=path.read_bytes()),),
            (Annotation(path.stem, "caption", texts=("textures move",)),),
        )
        for path in paths
    ]
    dataset = directory / "dataset"
    write_dataset(dataset, {options.split: records}, name="made", description="", labels={})
    return evaluation(model, str(dataset), options)


def embedding(model: vljepa_jax.Model, directory: Path, options: argparse.Namespace) -> Work:
    paths = [str(path) for path in made_files(directory / "clips", options.clips, options.seconds)]
    return Work(
        len(paths),
        lambda: _drop(read_video(path, model.video) for path in paths),
        encoding(model, [read_video(path, model.video) for path in paths]),
        lambda: model.embed_video(paths, QUERY),
    )


def streaming(model: vljepa_jax.Model, directory: Path, options: argparse.Namespace) -> Work:
    (path,) = made_files(directory / "stream", 1, options.clips * options.seconds)
    medium = Medium(path=str(path))

    def windows() -> Iterator[Window]:
        sliding = SlidingWindow(
            model.video, seconds=options.window, ticks_per_second=TICKS_PER_SECOND
        )
        return play_windows(medium, sliding)

    clips = [window.clip for window in windows()]
    return Work(
        len(clips),
        lambda: _drop(windows()),
        encoding(model, clips),
        lambda: embed_stream(
            model, medium, QUERY, seconds=options.window, ticks_per_second=TICKS_PER_SECOND
        ),
    )


def made_files(directory: Path, count: int, seconds: float) -> list[Path]:
    paths = [directory / f"{number}.mp4" for number in range(count)]
    if not directory.exists():
        directory.mkdir()
        for seed, path in enumerate(paths):
            write_clip(path, seed, seconds)
    return paths


def encoding(model: vljepa_jax.Model, clips: list[Any]) -> Callable[[], None]:
    size = model.batch_size
    batches = [np.stack(clips[start : start + size]) for start in range(0, len(clips), size)]

    def encode() -> None:
        for batch in batches:
            model.predict(batch, [QUERY] * len(batch))

    return encode


def measured(work: Work, repetitions: int) -> dict[str, Any]:
    work.both()  # compiles
    turns = []
    order = [work.decode, work.encode, work.both]
    for _ in range(repetitions):
        taken = {part: _timed(part) for part in order}
        order.reverse()
        (decoding, by_decoding), (encoding, by_encoding) = taken[work.decode], taken[work.encode]
        together, by_both = taken[work.both]
        limits = {
            "decoding": decoding,
            "encoding": encoding,
            "processors": (by_decoding + by_encoding) / host.available_cpus(),
        }
        limited_by = max(limits, key=limits.__getitem__)
        turns.append(
            (
                limits[limited_by] / together,
                (by_decoding + by_encoding) / by_both,
                decoding / encoding,
                by_both / together / host.available_cpus(),
                limited_by,
            )
        )
        print(turns[-1], file=sys.stderr, flush=True)
    *ratios, limited = zip(*turns, strict=True)
    names = (
        "end_to_end_over_allowed",
        "work_alone_over_together",
        "decoding_over_encoding",
        "processors_had",
    )
    return {
        name: [round(float(q), 3) for q in np.quantile(found, (0.5, 0.25, 0.75))]
        for name, found in zip(names, ratios, strict=True)
    } | {"limited_by": statistics.mode(limited), "clips": work.clips}


def _drop(items: Iterable[Any]) -> None:
    collections.deque(items, maxlen=0)


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the clock, and seconds of processors, those of ended child processes too."""
    before, start = _processor_seconds(), time.perf_counter()
    work()
    return time.perf_counter() - start, _processor_seconds() - before


def _processor_seconds() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usage = [resource.getrusage(kind) for kind in kinds]
    return sum(each.ru_utime + each.ru_stime for each in usage)


if __name__ == "__main__":
    host.set_up()
    main()
