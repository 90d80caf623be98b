"""Objectives: ways to train, as data; a file for each row of ``config.objectives``."""

from __future__ import annotations

import pkgutil

from vljepa_jax.config import OBJECTIVES, TrainConfig
from vljepa_jax.objectives.base import Objective

__all__ = ["Objective", "make_objective"]


def make_objective(config: TrainConfig) -> Objective:
    """The objective that a config names; raises ConfigError where its settings cannot be."""
    return pkgutil.resolve_name(OBJECTIVES[config.objective].objective)(config)
