"""Evaluation end to end against what decoding and encoding allow together, each measured alone.

    python benchmarks/eval_pipeline.py --checkpoint=runs/demo
    python benchmarks/eval_pipeline.py --checkpoint=runs/sft --dataset=data/msvd --split=test

End to end is what ``launch/eval.py`` does with clips that no cache has: decode, encode, predict, a
vector a clip. Alone, the same clips are decoded and dropped, and clips in memory are encoded. The
pipeline cannot be faster than the slower of both, nor than the processors can do both: of either,
the seconds of processors are counted too. The three take turns, every other time in reverse, so
that what else the machine does falls on each alike. The JSON that is printed holds the median of
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
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from machine import processor
from recipes import recipe

import vljepa_jax
from vljepa_jax import host
from vljepa_jax.config import WORLD, EvalConfig
from vljepa_jax.data.records import ClipError
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.embed import embed
from vljepa_jax.evals.examples import ClipRef
from vljepa_jax.evals.protocols.base import Needs

QUERY = "What is the action shown?"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--dataset", default=WORLD, help="a prepared dataset; %(default)s")
    parser.add_argument("--split", default="test", help="%(default)s")
    parser.add_argument("--clips", type=int, default=2_048, help="of a turn, at most; %(default)s")
    parser.add_argument("--batch_size", type=int, default=32, help="%(default)s")
    parser.add_argument(
        "--num_workers", type=int, default=0, help="decoding processes; %(default)s"
    )
    parser.add_argument("--repetitions", type=int, default=9, help="turns; %(default)s")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    model = vljepa_jax.load(options.checkpoint, batch_size=options.batch_size)
    world = recipe("configs/eval/world.py", kind=EvalConfig).world
    datasets = Datasets(world, options.num_workers)
    records = datasets[options.dataset].splits[options.split]
    clips = [
        ClipRef(options.dataset, options.split, record, (0,))
        for record in range(min(records, options.clips))
    ]
    decoded = [
        clip for _, clip in datasets.decode(clips, model.video) if not isinstance(clip, ClipError)
    ]
    batches = [
        np.stack(decoded[start : start + options.batch_size])
        for start in range(0, len(decoded), options.batch_size)
    ]

    def decode() -> None:
        collections.deque(datasets.decode(clips, model.video), maxlen=0)

    def encode() -> None:
        for batch in batches:
            model.predict(batch, [QUERY] * len(batch))

    def both() -> None:
        embed(model, Needs(frozenset((clip, QUERY) for clip in clips)), datasets, None, model.video)

    both()  # compiles
    turns = []
    order = [decode, encode, both]
    for _ in range(options.repetitions):
        taken = {work: _timed(work) for work in order}
        order.reverse()
        (decoding, by_decoding), (encoding, by_encoding) = taken[decode], taken[encode]
        together, by_both = taken[both]
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
    report = {
        name: [round(float(q), 3) for q in np.quantile(found, (0.5, 0.25, 0.75))]
        for name, found in zip(names, ratios, strict=True)
    } | {
        "limited_by": statistics.mode(limited),
        "clips": len(clips),
        "batch_size": options.batch_size,
        "num_workers": options.num_workers,
        "processor": processor(),
        "processors": host.available_cpus(),
    }
    print(json.dumps(report, indent=2))


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
