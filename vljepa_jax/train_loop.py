"""The loop around the step: feed, log, save, continue.

A run is its directory. ``train`` on a directory that holds a checkpoint continues from it, and
on one machine the continued losses are bitwise those of a run that was never interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import rich.console
from absl import logging

from vljepa_jax import checkpoint
from vljepa_jax.config import ConfigError, TrainConfig
from vljepa_jax.data.pipeline import Batch, TrainPipeline, array_spec, check_paths
from vljepa_jax.meters import Meter, Profile
from vljepa_jax.objectives import make_objective
from vljepa_jax.run_log import Progress, RunLog
from vljepa_jax.sharding import check_batch_size, make_mesh
from vljepa_jax.train_step import Trainer, TrainState
from vljepa_jax.visual_tokens import cache_visual_tokens

_NAMED_RECORDS = 8  # of a batch, in a message; a file names them all


class NonFiniteLoss(RuntimeError):
    """The loss or the gradient became infinite or not a number."""


@dataclasses.dataclass(frozen=True)
class Watch:
    """How a run is watched, which changes nothing of what it computes.

    Attributes:
        profile: the first and the last step to be traced, into ``profile/``; ``None`` for none.
        wandb: the Weights & Biases project that metrics go to as well; "" for none.
    """

    profile: tuple[int, int] | None = None
    wandb: str = ""


def train(
    config: TrainConfig,
    workdir: str | os.PathLike[str],
    watch: Watch = Watch(),
) -> None:
    """Trains until ``config.steps`` updates are made, from wherever ``workdir`` stands.

    Leaves config.json, checkpoints/, metrics.jsonl, tensorboard/ and, at the end, train.json
    {"steps", "examples_per_second", "wall_seconds", "final_loss"}; the seconds count compilation
    and, where a run was continued, every process's time up to its last checkpoint.

    SIGTERM and SIGINT save after the running step and raise ``SystemExit`` with the status
    128 + signal, by which a scheduler sees that the job is not done; a second signal kills.

    Raises:
        ConfigError: the config cannot be used, or ``workdir`` holds a run with another one.
        CheckpointError: ``init_from`` or a checkpoint does not fit.
        NonFiniteLoss: the newest checkpoint is then the last good one.
    """
    console = rich.console.Console()
    run_dir = Path(workdir)
    check_paths(config)
    mesh = make_mesh(config.sharding)
    check_batch_size(config.batch_size, mesh)
    trainer = Trainer(config, make_objective(config), mesh)
    _check_cached_tokens(config, trainer)
    checkpoint.check_config(run_dir, config)
    state, position = _start(config, run_dir, trainer)
    if position.step >= config.steps:
        console.print(f"'{run_dir}' has made all {config.steps} steps; nothing is left to train.")
    else:
        if position.step > 0:
            console.print(f"'{run_dir}' continues after step {position.step}.")
        if not config.init_from and position.step == 0:
            _warn_of_random_frozen_parts(trainer, console)
        cached = config.data.visual_tokens == "cache"
        tokens_key = cache_visual_tokens(config, state.params, console) if cached else ""
        pipeline = TrainPipeline(config, tokens_key)
        checkpoint.claim(run_dir, config)  # last: a wrong config leaves nothing to be in its way
        stopped_by = _Run(config, run_dir, trainer, pipeline, console, position, watch).loop(state)
        if stopped_by is not None:
            console.print(
                f"{stopped_by.name}: step {position.step} of {config.steps} is saved in "
                f"'{run_dir}'; the same command continues."
            )
            raise SystemExit(128 + stopped_by)
    summary = {
        "steps": position.step,
        "examples_per_second": position.examples / position.wall_seconds,
        "wall_seconds": position.wall_seconds,
        "final_loss": position.loss,
    }
    checkpoint.write_text(run_dir / "train.json", json.dumps(summary, indent=2) + "\n")


@dataclasses.dataclass
class _Position:
    """What continues beside the training state; saved with every checkpoint."""

    step: int  # updates made, which is the position in the data too
    examples: int = 0  # seen by this run
    replaced: int = 0  # of these, unreadable ones that were replaced
    wall_seconds: float = 0.0
    loss: float = math.nan  # of the last step


def _start(config: TrainConfig, run_dir: Path, trainer: Trainer) -> tuple[TrainState, _Position]:
    """The state and the position from which this process goes on."""
    path = checkpoint.newest(run_dir)
    if path is not None:
        state, saved = checkpoint.restore(path, trainer.abstract_state)
        return state, _Position(**saved)
    state = checkpoint.initial_state(
        config.init_from, trainer.init, trainer.init_extra, trainer.abstract_state
    )
    position = _Position(step=int(state.step))
    if position.step >= config.steps:
        raise ConfigError(
            f"steps: {config.steps}, but init_from starts at step {position.step}; set more steps"
        )
    return state, position


def _warn_of_random_frozen_parts(trainer: Trainer, console: rich.console.Console) -> None:
    _, frozen = trainer.optimizer.split(trainer.abstract_state.params)
    if frozen:
        console.print(
            f"Warning: {', '.join(sorted(frozen))}: frozen by optimizer.rules, and random, as "
            "init_from is empty. launch/convert.py makes a checkpoint of pretrained backbones; "
            "start from it with --config.init_from=DIR:params.",
            style="yellow",
        )


def _check_cached_tokens(config: TrainConfig, trainer: Trainer) -> None:
    if config.data.visual_tokens == "cache":
        trained, _ = trainer.optimizer.split(trainer.abstract_state.params)
        if "x_encoder" in trained:
            raise ConfigError(
                "data.visual_tokens: 'cache' holds what a frozen X-Encoder gives, but "
                "optimizer.rules train x_encoder; freeze it or set 'compute'"
            )


class _Run:
    """One process's part of a run."""

    def __init__(
        self,
        config: TrainConfig,
        run_dir: Path,
        trainer: Trainer,
        pipeline: TrainPipeline,
        console: rich.console.Console,
        position: _Position,
        watch: Watch,
    ) -> None:
        """``position`` is moved along with the run."""
        self._watch = watch
        self._meter = Meter(config, trainer.devices)
        self._config = config
        self._run_dir = run_dir
        self._trainer = trainer
        self._pipeline = pipeline
        self._console = console
        self._position = position
        self._began = time.perf_counter() - position.wall_seconds
        self._restart_interval()

    def loop(self, state: TrainState) -> signal.Signals | None:
        """Trains to the end, or until a signal, which it returns; the last step is then saved."""
        config, position = self._config, self._position
        batches = self._pipeline.batches(position.step, jax.process_index(), jax.process_count())
        with self._console.status("Compiling the training step ..."):
            train_step = self._trainer.compile(array_spec(config))
        with (
            contextlib.closing(batches),
            checkpoint.Checkpoints(self._run_dir, config.checkpoint.keep) as self._checkpoints,
            RunLog(self._run_dir, position.step, self._watch.wandb, config) as self._log,
            Profile(self._run_dir, self._watch.profile) as profile,
            Progress(position.step, config.steps, self._console) as self._progress,
            _Signals() as signals,
        ):
            self._restart_interval()
            unread = None
            for step in range(position.step + 1, config.steps + 1):
                try:
                    batch = self._next(batches)
                except Exception:
                    if signals.received is None:
                        raise
                    # Sent to the whole process group, the signal has ended the loader's workers.
                    logging.warning("no more data after %s", signals.received.name, exc_info=True)
                    if unread is not None:
                        self._finish(*unread)
                        self._checkpoints.save(state, dataclasses.asdict(position))
                    break
                profile.before(step)
                # Both are only started here: the rows travel while the step before is computed.
                state, metrics = train_step(state, self._trainer.put(batch.arrays))
                profile.after(step, functools.partial(jax.block_until_ready, metrics))
                # A step's metrics are fetched when the next one is under way, so that devices do
                # not wait for the log; but before a save, so that nothing broken is saved.
                if unread is not None:
                    self._finish(*unread)
                unread = (step, batch, metrics)
                stop = signals.received is not None or step == config.steps
                if stop or step % config.checkpoint.every == 0:
                    self._finish(*unread)
                    unread = None
                    self._checkpoints.save(state, dataclasses.asdict(position))
                if stop:
                    break
        return signals.received if position.step < config.steps else None

    def _next(self, batches: Iterator[Batch]) -> Batch:
        began = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - began
        return batch

    def _finish(self, step: int, batch: Batch, metrics: dict[str, jax.Array]) -> None:
        """Awaits a step, checks it, moves the position, and logs where that is due."""
        config, position = self._config, self._position
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise self._non_finite(step, batch, values)
        position.step, position.loss = step, values["loss"]
        position.examples += config.batch_size
        position.replaced += len(batch.replaced)
        position.wall_seconds = time.perf_counter() - self._began
        for reason in batch.replaced:
            logging.warning("step %d: an unreadable example was replaced: %s", step, reason)
        self._progress.update(step, values["loss"])
        if step % config.log_every == 0 or step in (1, config.steps):
            seconds = time.perf_counter() - self._interval_began
            examples = position.examples - self._interval_examples
            rate = examples / seconds
            values |= {
                "examples_per_second": rate,
                "wall_seconds": position.wall_seconds,
                "data/wait": self._waited / seconds,  # share of the time
                "data/replaced": position.replaced,
                **self._meter.measure(examples // config.batch_size, seconds),
            }
            self._log.write(step, values)
            seconds_left = (config.steps - step) * config.batch_size / rate
            self._progress.logged(step, values["loss"], rate, seconds_left)
            self._restart_interval()

    def _restart_interval(self) -> None:
        self._interval_began = time.perf_counter()
        self._interval_examples = self._position.examples
        self._waited = 0.0

    def _non_finite(self, step: int, batch: Batch, values: dict[str, float]) -> NonFiniteLoss:
        path = self._run_dir / "non_finite.json"
        report = {"step": step, "ids": batch.ids} | {k: repr(v) for k, v in values.items()}
        checkpoint.write_text(path, json.dumps(report, indent=2) + "\n")
        more = len(batch.ids) - _NAMED_RECORDS
        self._checkpoints.wait()
        good = checkpoint.newest(self._run_dir)
        return NonFiniteLoss(
            f"step {step}: loss {values['loss']}, gradient norm {values['gradient_norm']}. "
            f"Examples of the batch: {', '.join(batch.ids[:_NAMED_RECORDS])}"
            + (f" and {more} more" if more > 0 else "")
            + f" (all in '{path}'). "
            + (f"Last good checkpoint: '{good}'." if good else "No checkpoint was saved yet.")
        )


class _Signals:
    """Remembers the first SIGTERM or SIGINT instead of dying by it; the second one kills.

    Attributes:
        received: the signal, or ``None``.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python forbids it
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        del frame
        self.received = signal.Signals(number)
        signal.signal(number, self._previous[self.received])
