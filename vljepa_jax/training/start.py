"""Where a run begins: its newest checkpoint, or ``init_from``; and what is checked before it."""

from __future__ import annotations

import dataclasses
import math

import rich.console

from vljepa_jax.config import CheckpointConfig, ConfigError, TrainConfig
from vljepa_jax.places import AnyPath, in_bucket
from vljepa_jax.run_dir import newest
from vljepa_jax.training import checkpoint
from vljepa_jax.training.train_state import TrainState
from vljepa_jax.training.train_step import Trainer


@dataclasses.dataclass
class Position:
    """Counts that continue beside the training state; saved with every checkpoint."""

    step: int  # made, with or without an update, which is the position in the data too
    examples: int = 0  # seen by this run
    replaced: int = 0  # of these, unreadable ones that were replaced
    skipped: int = 0  # steps without an update, as their loss was not finite
    wall_seconds: float = 0.0
    loss: float = math.nan  # of the last step
    best: float | None = None  # value of ``checkpoint.best_metric`` of a checkpoint
    not_better: int = 0  # checkpoints since then

    def is_stale(self, config: CheckpointConfig) -> bool:
        """Whether the run ends, as its checkpoints have not become better for long."""
        return 0 < config.patience <= self.not_better

    def judge(self, value: float, config: CheckpointConfig) -> None:
        """Counts a checkpoint of this value of ``best_metric``."""
        higher = config.best_is == "highest"
        if self.best is None or (value > self.best if higher else value < self.best):
            self.best, self.not_better = value, 0
        else:
            self.not_better += 1


def start(config: TrainConfig, run_dir: AnyPath, trainer: Trainer) -> tuple[TrainState, Position]:
    """The state and the position from which this process goes on.

    Raises:
        CheckpointError: ``init_from`` or the run's checkpoint does not fit.
        ConfigError: ``init_from`` has made all steps already.
    """
    path = newest(run_dir)
    if path is not None:
        state, saved = checkpoint.restore(path, trainer.abstract_state)
        return state, Position(**saved)
    state = checkpoint.initial_state(
        config.init_from, trainer.init, trainer.init_extra, trainer.abstract_state
    )
    position = Position(step=int(state.step))
    if position.step >= config.steps:
        raise ConfigError(
            f"steps: {config.steps}, but init_from starts at step {position.step}; set more steps"
        )
    return state, position


def warn_of_random_frozen_parts(trainer: Trainer, console: rich.console.Console) -> None:
    """Tells of parameters that this run does not train, and that are random."""
    _, frozen = trainer.optimizer.split(trainer.abstract_state.params)
    if frozen:
        console.print(
            f"Warning: {', '.join(sorted(frozen))}: frozen by optimizer.rules, and random, as "
            "init_from is empty. launch/convert.py makes a checkpoint of pretrained backbones; "
            "start from it with --config.init_from=DIR:params.",
            style="yellow",
        )


def check_cached_tokens(config: TrainConfig, trainer: Trainer) -> None:
    """Raises ConfigError where ``data.visual_tokens`` asks for a cache that cannot be kept."""
    if config.data.visual_tokens == "cache":
        for index, source in enumerate(config.data.sources):
            if in_bucket(source.path):
                raise ConfigError(
                    "data.visual_tokens: 'cache' writes beside a dataset, which must lie on a disk "
                    f"then, and data.sources[{index}].path is '{source.path}'; copy it, or set "
                    "'compute'"
                )
        trained, _ = trainer.optimizer.split(trainer.abstract_state.params)
        if "x_encoder" in trained:
            raise ConfigError(
                "data.visual_tokens: 'cache' holds what a frozen X-Encoder gives, but "
                "optimizer.rules train x_encoder; freeze it or set 'compute'"
            )
