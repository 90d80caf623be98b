"""Names of benchmarks and of their metrics."""

from __future__ import annotations

from collections.abc import Sequence

from vljepa_jax.config import BenchmarkConfig, ConfigError, nearest
from vljepa_jax.evals.protocols import PROTOCOLS


def benchmark_name(benchmark: BenchmarkConfig) -> str:
    """What ``--benchmarks`` calls it, e.g. "world/motion_compositional"."""
    return benchmark.name + benchmark.suffix


def metric_name(benchmark: BenchmarkConfig, ending: str) -> str:
    """E.g. "world/motion" + "_top1" + "_compositional"."""
    return benchmark.name + ending + benchmark.suffix


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
        for ending in PROTOCOLS[benchmark.protocol].suffixes:
            by_name[metric_name(benchmark, ending)] = benchmark
    for name in names:
        if name not in by_name:
            known = ", ".join(benchmark_name(benchmark) for benchmark in benchmarks)
            raise ConfigError(f"unknown benchmark '{name}'{nearest(name, by_name)}; known: {known}")
    chosen = [by_name[name] for name in names]
    return tuple(benchmark for benchmark in benchmarks if benchmark in chosen)
