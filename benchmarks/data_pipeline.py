"""The training pipeline against bare PyAV: clips a second and core, of the same files, in one run.

    python benchmarks/data_pipeline.py
    python benchmarks/data_pipeline.py --config=configs/finetune.py:datasets/clips

Ours is what training reads: records through Grain, the wanted frames decoded, cropped and resized,
texts tokenized, rows put together to batches. Bare PyAV opens the same files, goes to the keyframe
before the span, decodes on one thread up to the last wanted frame and turns the wanted ones into
RGB arrays; it does nothing else. Each runs in one process on one core, and in as many as there are
cores; they take turns, and the JSON that is printed holds the medians. Run it on a machine that
does nothing else.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable

import av
import grain
import numpy as np
from recipes import recipe

from vljepa_jax import host
from vljepa_jax.config import TrainConfig
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.kinds import kind_of
from vljepa_jax.data.media_bytes import open_bytes
from vljepa_jax.data.pipeline import TrainPipeline
from vljepa_jax.data.records import Medium


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/demo.py:captions", help="%(default)s")
    parser.add_argument("--clips", type=int, default=512, help="of a measurement; %(default)s")
    parser.add_argument("--repetitions", type=int, default=5, help="of each, in turns")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    config = _config(options)
    source = config.data.sources[0]
    records = find_dataset(source.path, config.world).media(source.split)
    # The first videos in the order of the records; of a small dataset, again and again.
    media = [
        medium
        for index in range(min(len(records), options.clips))
        for medium in records[index].media[:1]
        if kind_of(medium) == "video"
    ]
    if not media:
        raise SystemExit(f"{options.config}: there is no video in its first source, only images")
    media = list(itertools.islice(itertools.cycle(media), options.clips))
    frames, rows = config.data.video.frames, config.batch_size
    batches = max(1, options.clips // rows)
    cores = host.available_cpus()
    report = {
        "config": options.config,
        "frames": frames,
        "size": config.data.video.image_size,
        "batch_size": rows,
        "versions": {"grain": grain.__version__, "av": av.__version__},
        "cores": {},
    }
    for used in sorted({1, cores}):
        with _bare(media, frames, used) as bare:
            ours = lambda used=used: _ours(config, batches, used)  # noqa: E731
            rates: dict[str, list[float]] = {"ours": [], "pyav": []}
            for _ in range(options.repetitions):
                rates["ours"].append(ours())
                rates["pyav"].append(bare())
                print(f"{used} cores: {rates}", file=sys.stderr, flush=True)
        median = {name: statistics.median(values) / used for name, values in rates.items()}
        report["cores"][used] = {
            "ours_clips_per_second_per_core": round(median["ours"], 2),
            "pyav_clips_per_second_per_core": round(median["pyav"], 2),
            "ours_over_pyav": round(median["ours"] / median["pyav"], 3),
        }
    print(json.dumps(report, indent=2))


def _config(options: argparse.Namespace) -> TrainConfig:
    path, _, variant = options.config.partition(":")
    config = recipe(path, *filter(None, [variant]))
    data = dataclasses.replace(config.data, visual_tokens="compute")
    rows = min(config.batch_size, options.clips)
    return dataclasses.replace(config, data=data, batch_size=rows)


# ---------------------------------------------------------------------------------------------
# Ours
# ---------------------------------------------------------------------------------------------
def _ours(config: TrainConfig, batches: int, cores: int) -> float:
    """Clips a second, once the first batch is there: what starts with the workers is not timed."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(everywhere)[:cores])
    try:
        workers = cores if cores > 1 else 0
        data = dataclasses.replace(config.data, num_workers=workers)
        # The batches read ahead when the clock starts are fewer than those still to come.
        first, timed = 1, 4 * batches
        steps = first + timed
        pipeline = TrainPipeline(dataclasses.replace(config, data=data, steps=steps))
        with contextlib.closing(pipeline.batches(0)) as iterator:
            for _ in range(first):
                next(iterator)
            began = time.perf_counter()
            for _ in itertools.islice(iterator, timed):
                pass
            return timed * config.batch_size / (time.perf_counter() - began)
    finally:
        os.sched_setaffinity(0, everywhere)


# ---------------------------------------------------------------------------------------------
# PyAV alone
# ---------------------------------------------------------------------------------------------
class _bare:
    """A pool of ``cores`` processes that decode; called, it gives clips a second."""

    def __init__(self, media: list[Medium], frames: int, cores: int):
        self._media, self._frames, self._cores = media, frames, cores

    def __enter__(self) -> Callable[[], float]:
        context = multiprocessing.get_context("spawn")
        self._pool = concurrent.futures.ProcessPoolExecutor(
            self._cores, context, _pin, (context.Value("i", 0),)
        )
        list(self._pool.map(_decode, self._media[: self._cores], itertools.repeat(self._frames)))
        return self._rate

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def _rate(self) -> float:
        chunk = max(1, len(self._media) // (8 * self._cores))
        began = time.perf_counter()
        decoded = self._pool.map(
            _decode, self._media, itertools.repeat(self._frames), chunksize=chunk
        )
        count = sum(decoded)
        return count / (time.perf_counter() - began)


def _pin(started) -> None:
    """Each process on a core of its own."""
    with started.get_lock():
        index = started.value
        started.value += 1
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[index]})


def _decode(medium: Medium, frames: int) -> int:
    """Decodes one clip and returns 1."""
    with av.open(open_bytes(medium)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        begin = medium.start or 0.0
        end = medium.end or container.duration / av.time_base
        moments = begin + (np.arange(frames) + 0.5) / frames * (end - begin)
        if begin:
            container.seek(int(begin / stream.time_base), stream=stream)
        shown: list[np.ndarray] = []
        for frame in container.decode(stream):
            over = frame.time + float((frame.duration or 0) * stream.time_base)
            wanted = int(np.searchsorted(moments, over)) - len(shown)
            if wanted > 0:
                shown += [frame.to_ndarray(format="rgb24")] * wanted
            if len(shown) == frames:
                break
    assert np.stack(shown).ndim == 4
    return 1


if __name__ == "__main__":
    host.set_up()
    main()
