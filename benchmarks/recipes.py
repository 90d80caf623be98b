"""Recipes as they stand, and random batches for them, for several benchmarks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TypeVar

import numpy as np

from vljepa_jax.config import EvalConfig, TrainConfig, load_recipe, parse
from vljepa_jax.data.pipeline import array_spec

ROOT = Path(__file__).parents[1]
Recipe = TypeVar("Recipe", TrainConfig, EvalConfig)


def recipe(path: str, *variant: str, kind: type[Recipe] = TrainConfig) -> Recipe:
    """The configuration that a recipe file gives; ``path`` is relative to the repository."""
    return parse(kind, load_recipe(ROOT / path, *variant))


def quarter() -> TrainConfig:
    """The widths of configs/vljepa_1b.py:video8 and a quarter of its layers, from pixels.

    Token tables are cut: a look-up has no arithmetic, and the trained one's moments are large.
    """
    config = recipe("configs/vljepa_1b.py", "video8")
    model = config.model
    model = dataclasses.replace(
        model,
        x_encoder=dataclasses.replace(model.x_encoder, num_layers=6),
        predictor=dataclasses.replace(
            model.predictor, num_layers=2, first_layer=0, vocab_size=8192
        ),
        y_encoder=dataclasses.replace(model.y_encoder, num_layers=6, vocab_size=8192),
    )
    text = dataclasses.replace(config.data.text, target_length=128)
    data = dataclasses.replace(config.data, visual_tokens="compute", text=text)
    return dataclasses.replace(config, model=model, data=data)


def random_batch(config: TrainConfig, seed: int) -> dict[str, np.ndarray]:
    """Random pixels and tokens of a VL-JEPA, no padding; a tenth of the rows share a target.

    Token 0 pads: torch gives it no gradient, and its row of zeros would have a huge one in ours.
    """
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
            first = 1 if name.endswith("_tokens") else 0
            arrays[name] = rng.integers(first, limits.get(name, 256), shape).astype(dtype)
        else:  # visual tokens
            arrays[name] = rng.standard_normal(shape).astype(dtype)
    return arrays
