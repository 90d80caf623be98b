"""From a benchmark's config to the protocol that scores it."""

from __future__ import annotations

import pkgutil

from vljepa_jax.config import PROTOCOLS, BenchmarkConfig
from vljepa_jax.evals.protocols.base import Protocol


def make_protocol(benchmark: BenchmarkConfig) -> Protocol:
    """The protocol that a benchmark names, with its parameters."""
    return pkgutil.resolve_name(PROTOCOLS[benchmark.protocol.name].protocol)(benchmark)
