"""What the benchmarks share: recipes as they stand, and random batches for them."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np

from vljepa_jax.config import TrainConfig, parse
from vljepa_jax.data.pipeline import array_spec

ROOT = Path(__file__).parents[1]


def recipe(path: str, *variant: str) -> TrainConfig:
    """The configuration that a recipe file of this repository gives."""
    return parse(TrainConfig, runpy.run_path(str(ROOT / path))["get_config"](*variant))


def random_batch(config: TrainConfig, seed: int) -> dict[str, np.ndarray]:
    """Random pixels and tokens of a VL-JEPA, no padding; a tenth of the rows share a target."""
    rng = np.random.default_rng(seed)
    limits = {
        "query_tokens": config.model.predictor.vocab_size,
        "target_tokens": config.model.y_encoder.vocab_size,
        "target_id": max(2, 9 * config.batch_size // 10),
    }
    arrays = {}
    for name, (shape, dtype) in array_spec(config).items():
        if dtype == np.bool_:
            arrays[name] = np.ones(shape, bool)
        elif np.issubdtype(dtype, np.integer):
            arrays[name] = rng.integers(0, limits.get(name, 256), shape).astype(dtype)
        else:  # visual tokens
            arrays[name] = rng.standard_normal(shape).astype(dtype)
    return arrays
