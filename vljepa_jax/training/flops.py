"""The arithmetic of a training step, traced and counted."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from vljepa_jax.config import TrainConfig
from vljepa_jax.data.pipeline import array_spec
from vljepa_jax.models.attention import kernel
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import make_mesh
from vljepa_jax.training import count
from vljepa_jax.training.train_step import Trainer


def model_flops(config: TrainConfig) -> float:
    """FLOPs that a step's model asks for: matrix products, forward and backward once.

    What is recomputed to save memory is not among them.
    """
    bare = dataclasses.replace(
        one_device(config),
        model=dataclasses.replace(config.model, remat="none"),
        micro_batch_size=0,
    )
    with kernel("plain"):
        operations = traced_step(bare, make_mesh(bare.sharding, jax.devices()[:1]))
    return count.total_flops(operations, "product")


def one_device(config: TrainConfig) -> TrainConfig:
    """The config for a mesh of one device."""
    sharding = dataclasses.replace(config.sharding, data=1, fsdp=1, tensor=1)
    return dataclasses.replace(config, sharding=sharding)


def traced_step(config: TrainConfig, mesh: Any) -> list[count.Operation]:
    """The operations of a step on a mesh, its layers' scans counted as often as they run."""
    trainer = Trainer(config, make_objective(config), mesh)
    arrays = {
        name: jax.ShapeDtypeStruct(shape, dtype)
        for name, (shape, dtype) in array_spec(config).items()
    }
    return count.operations(trainer.step, trainer.abstract_state, arrays)
