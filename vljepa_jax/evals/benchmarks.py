"""Names of benchmarks and of their metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from vljepa_jax.config import (
    BenchmarkConfig,
    ConfigError,
    EvalConfig,
    StreamStudyConfig,
    VideoInput,
    nearest,
)
from vljepa_jax.evals.protocols.registry import make_protocol

STREAM = "stream"  # what ``--benchmarks`` calls the study of selective decoding


def benchmark_name(benchmark: BenchmarkConfig) -> str:
    """Name of a benchmark for ``--benchmarks``, e.g. "world/motion_compositional"."""
    return benchmark.name + benchmark.suffix


def metric_name(benchmark: BenchmarkConfig, ending: str) -> str:
    """E.g. "world/motion" + "_top1" + "_compositional"."""
    return benchmark.name + ending + benchmark.suffix


def video_of(benchmark: BenchmarkConfig, video: VideoInput) -> VideoInput:
    """How a benchmark's clips are read: as the model reads all, but for what the benchmark sets."""
    how = video.preprocessing
    return dataclasses.replace(
        video,
        frames=benchmark.frames or video.frames,
        window=benchmark.window,
        preprocessing=dataclasses.replace(
            how, fit=how.fit if benchmark.fit == "model" else benchmark.fit
        ),
    )


def with_frames(
    config: EvalConfig, benchmarks: Sequence[BenchmarkConfig]
) -> tuple[BenchmarkConfig, ...]:
    """Benchmarks without a number of frames of their own where the config names one for all."""
    if not config.frames:
        return tuple(benchmarks)
    return tuple(dataclasses.replace(benchmark, frames=0) for benchmark in benchmarks)


def missing_examples(benchmark: BenchmarkConfig, scored: int, there: int) -> int:
    """How many examples of the whole benchmark were not scored; below 0, how many more were.

    Args:
        scored: examples that were.
        there: examples of the dataset, which are the whole where nobody says how many these are.
    """
    return (benchmark.expected or there) - scored


def select_benchmarks(
    benchmarks: Sequence[BenchmarkConfig], names: Sequence[str]
) -> tuple[BenchmarkConfig, ...]:
    """Benchmarks by name or by one of their metrics' names, in the config's order.

    Args:
        names: none for all.

    Raises:
        ConfigError: no benchmark has a name; the nearest one is named.
    """
    if not names:
        return tuple(benchmarks)
    by_name: dict[str, BenchmarkConfig] = {}
    for benchmark in benchmarks:
        by_name[benchmark_name(benchmark)] = benchmark
        for ending in make_protocol(benchmark).suffixes:
            by_name[metric_name(benchmark, ending)] = benchmark
    for name in names:
        if name not in by_name:
            known = ", ".join([*(benchmark_name(benchmark) for benchmark in benchmarks), STREAM])
            raise ConfigError(f"unknown benchmark '{name}'{nearest(name, by_name)}; known: {known}")
    chosen = [by_name[name] for name in names]
    return tuple(benchmark for benchmark in benchmarks if benchmark in chosen)


def select(
    config: EvalConfig, names: Sequence[str]
) -> tuple[tuple[BenchmarkConfig, ...], StreamStudyConfig | None]:
    """Selects what ``--benchmarks`` names: benchmarks, and the study of streams or ``None``.

    Args:
        names: none for all; "stream" is the study.

    Raises:
        ConfigError: a name is unknown, or the config has no study.
    """
    if not names:
        return select_benchmarks(config.benchmarks, ()), config.stream
    others = [name for name in names if name != STREAM]
    if len(others) < len(names) and config.stream is None:
        raise ConfigError(f"this config has no benchmark '{STREAM}': config.stream is None")
    benchmarks = select_benchmarks(config.benchmarks, others) if others else ()
    return benchmarks, config.stream if len(others) < len(names) else None
