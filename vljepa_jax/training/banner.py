"""What a training is about to do, said before it begins: devices, parameters, data, memory."""

from __future__ import annotations

import collections
import math
from typing import Any

import jax
import rich.console
import rich.table

from vljepa_jax.config import TrainConfig
from vljepa_jax.data.pipeline import list_sources
from vljepa_jax.training.train_step import Trainer

PyTree = Any


def print_banner(config: TrainConfig, trainer: Trainer, console: rich.console.Console) -> None:
    """Says on which devices what is trained with which data; opens the datasets.

    Raises:
        ConfigError, DatasetError: see ``data.pipeline.TrainPipeline``.
    """
    device, count = trainer.devices[0], len(trainer.devices)
    mesh = ", ".join(f"{axis} {size}" for axis, size in trainer.mesh.shape.items())
    processes = len({each.process_index for each in trainer.devices})
    several = f" of {processes} processes" if processes > 1 else ""
    trained, frozen = trainer.optimizer.split(trainer.abstract_state.params)
    state = sum(state_bytes(trainer))
    table = rich.table.Table.grid(padding=(0, 2))
    table.add_row("devices", f"{count} x {device.device_kind}{several}; mesh: {mesh}")
    table.add_row("trained", _parameters(trained))
    table.add_row("frozen", _parameters(frozen))
    seen = config.steps * config.batch_size
    for source in list_sources(config):
        table.add_row(
            "data",
            f"{source.path}, split '{source.split}': {source.records:,} records with "
            f"{', '.join(source.tasks)}",
        )
    table.add_row("steps", f"{config.steps:,} of {config.batch_size} rows, {seen:,} in all")
    table.add_row("memory", f"{readable_bytes(state)} a device for parameters and optimiser")
    console.print(table, highlight=False)


def state_bytes(trainer: Trainer) -> tuple[float, float, float]:
    """Bytes on a device of the trained parameters, the frozen ones, and all else of the state."""

    def of(tree: PyTree) -> float:
        return float(
            sum(
                math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
                for leaf in jax.tree.leaves(tree)
            )
        )

    state = trainer.abstract_state
    trained, frozen = trainer.optimizer.split(state.params)
    return of(trained), of(frozen), of(state) - of(state.params)


def readable_bytes(size: float) -> str:
    """ "3.2 GiB"; "12 MiB"."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def short_number(number: float) -> str:
    """ "303.9M"; "-" for none."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.{2 if unit == 'B' else 1}f}{unit}"
    return f"{number:.0f}" if number else "-"


def _parameters(tree: PyTree) -> str:
    """ "2.1M parameters: predictor 1.8M, y_encoder 300.0k"."""
    sizes: collections.Counter[str] = collections.Counter()
    for part, leaves in tree.items():
        sizes[part] += sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(leaves))
    if not sizes:
        return "nothing"
    large = [part for part in sizes.most_common() if part[1] > sizes.total() / 1000]
    parts = ", ".join(f"{part} {short_number(size)}" for part, size in large)
    return f"{short_number(sizes.total())} parameters: {parts}"
