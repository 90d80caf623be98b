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
import pkgutil
import signal
import time
from typing import Any

import jax
import rich.console
from absl import logging

from vljepa_jax import terminal
from vljepa_jax.config import EVALUATED, ConfigError, TrainConfig, nearest
from vljepa_jax.data.pipeline import Batch, TrainPipeline, array_spec, check_paths
from vljepa_jax.losses import Histogram
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.processes import (
    first_process,
    gather,
    of_first,
    owned_by_first,
    require_shared,
)
from vljepa_jax.parallel.sharding import check_batch_size, left_whole, make_mesh
from vljepa_jax.places import AnyPath, in_bucket, place, write_text
from vljepa_jax.run_dir import check_config, claim, newest
from vljepa_jax.training.banner import print_banner, readable_bytes
from vljepa_jax.training.checkpoint_writer import Checkpoints
from vljepa_jax.training.meters import Meter, Profile
from vljepa_jax.training.run_log import Progress, RunLog, add_row
from vljepa_jax.training.signals import StopSignals
from vljepa_jax.training.start import (
    Position,
    check_cached_tokens,
    start,
    warn_of_random_frozen_parts,
)
from vljepa_jax.training.train_state import TrainState
from vljepa_jax.training.train_step import Trainer
from vljepa_jax.training.visual_tokens import cache_visual_tokens

_NAMED_RECORDS = 8  # of a batch, in a message; a file names them all
# What makes ``config.evaluations``, named as an entry point is: evals stand on training.
_EVALUATOR = "vljepa_jax.evals.while_training:Evaluator"
_MOST_SKIPPED = 10  # broken steps in a row after which something else must be wrong


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

    With ``checkpoint.patience`` it ends before, where checkpoints become no better.

    Leaves config.json, checkpoints/, metrics.jsonl, tensorboard/ and, at the end, train.json
    {"steps", "examples_per_second", "wall_seconds", "final_loss"}; the seconds count compilation,
    evaluations and, where a run was continued, every process's time up to its last checkpoint.

    SIGTERM and SIGINT save after the running step and raise ``SystemExit`` with the status
    128 + signal, by which a scheduler sees that the job is not done; a second signal kills. Of
    several processes any may get the SIGTERM: all stop after the same step. All of them call this
    function, with one ``workdir`` on a disk that they share; the first alone writes and speaks.

    Raises:
        ConfigError: the config cannot be used, or ``workdir`` holds a run with another one.
        InUse: another training has ``workdir``.
        CheckpointError: ``init_from`` or a checkpoint does not fit, or one cannot be written.
        NonFiniteLoss: the newest checkpoint is then the last good one.
    """
    console = terminal.PlainConsole(quiet=not first_process())
    run_dir = place(workdir)
    if watch.profile and in_bucket(run_dir):
        raise ConfigError("--profile writes its trace to a disk: give it a --workdir there")
    check_paths(config)
    require_shared(run_dir)
    mesh = make_mesh(config.sharding)
    check_batch_size(config.batch_size, config.micro_batch_size, mesh)
    trainer = Trainer(config, make_objective(config), mesh)
    check_cached_tokens(config, trainer)
    if whole := left_whole(trainer.abstract_state.params, config.sharding.rules, mesh):
        console.print(whole, style="yellow")
    with owned_by_first(run_dir, console):
        _train(config, run_dir, trainer, console, watch)


def train_to_end(config: TrainConfig, run: AnyPath) -> None:
    """``train``, unless that is done: a sequence of trainings that is finished may be moved."""
    path = newest(run)
    if path is None or int(path.name) < config.steps:
        train(config, run)


def _train(
    config: TrainConfig,
    run_dir: AnyPath,
    trainer: Trainer,
    console: rich.console.Console,
    watch: Watch,
) -> None:
    """``train`` in a directory that is this job's alone."""
    check_config(run_dir, config)
    if config.checkpoint.best_metric.startswith(EVALUATED) and not config.evaluations:
        raise ConfigError(
            f"checkpoint.best_metric: '{config.checkpoint.best_metric}' is of an evaluation, and "
            "config.evaluations is empty"
        )
    evaluator = pkgutil.resolve_name(_EVALUATOR)(config) if config.evaluations else None
    state, position = start(config, run_dir, trainer)
    if position.step >= config.steps:
        console.print(f"'{run_dir}' has made all {config.steps} steps; nothing is left to train.")
    elif position.is_stale(config.checkpoint):
        console.print(f"'{run_dir}' ended at step {position.step}; nothing is left to train.")
    else:
        if position.step > 0:
            console.print(f"'{run_dir}' continues after step {position.step}.")
        print_banner(config, trainer, console)
        if not config.init_from and position.step == 0:
            warn_of_random_frozen_parts(trainer, console)
        cached = config.data.visual_tokens == "cache"
        tokens_key = cache_visual_tokens(config, state.params, console) if cached else ""
        pipeline = TrainPipeline(config, tokens_key)
        if first_process():
            claim(run_dir, config)  # last: a wrong config leaves nothing in its way
        run = _Run(config, run_dir, trainer, pipeline, console, position, watch, evaluator)
        stopped_by = run.loop(state)
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
    if first_process():
        write_text(run_dir / "train.json", json.dumps(summary, indent=2) + "\n")


class _Run:
    """One process's part of a run."""

    def __init__(
        self,
        config: TrainConfig,
        run_dir: AnyPath,
        trainer: Trainer,
        pipeline: TrainPipeline,
        console: rich.console.Console,
        position: Position,
        watch: Watch,
        evaluator: Any,
    ) -> None:
        """``position`` is moved along with the run; ``evaluator`` may be ``None``."""
        self._watch = watch
        self._meter = Meter(config, trainer.devices)
        self._evaluator = evaluator
        self._config = config
        self._run_dir = run_dir
        self._trainer = trainer
        self._pipeline = pipeline
        self._console = console
        self._position = position
        self._began = time.perf_counter() - position.wall_seconds
        self._replaced = 0  # in this process, and not yet in the position
        self._skipped = 0  # in a row
        self._values: list[float] = []  # of the best metric, since the last checkpoint
        self._best_by_evaluation = config.checkpoint.best_metric.startswith(EVALUATED)
        self._restart_interval()

    def loop(self, state: TrainState) -> signal.Signals | None:
        """Trains to its end, or until a signal, which it returns; the last step is then saved."""
        config, position = self._config, self._position
        self._batches = self._pipeline.batches(position.step, self._trainer.local_rows)
        with self._console.status("Compiling the training step ..."):
            train_step = self._trainer.compile(array_spec(config))
        if held := self._trainer.step_bytes:
            self._console.print(f"A step takes {readable_bytes(held)} of a device.")
        with (
            contextlib.ExitStack() as at_end,
            Checkpoints(self._run_dir, config.checkpoint) as self._checkpoints,
            self._open_log() as self._log,
            Profile(self._run_dir, self._watch.profile) as profile,
            Progress(position.step, config.steps, self._console) as self._progress,
            StopSignals() as signals,
        ):
            at_end.callback(lambda: self._batches.close())
            self._restart_interval()
            self._saved = time.monotonic()
            unread = None
            for step in range(position.step + 1, config.steps + 1):
                batch = self._next(step, running=unread and unread[2]["loss"])
                profile.before(step)
                # Both are only started here: the rows travel while the step before is computed.
                state, metrics = train_step(state, self._trainer.put(batch.arrays))
                profile.after(step, functools.partial(jax.block_until_ready, metrics))
                # A step's metrics are fetched when the next one is under way, so that devices do
                # not wait for the log; but before a save, so that nothing broken is saved.
                if unread is not None:
                    self._finish(*unread)
                unread = (step, batch, metrics)
                stop = signals.stop_after(step) or step == config.steps
                save = stop or step % config.checkpoint.every == 0 or self._time_to_save()
                evaluate = self._evaluator is not None and self._evaluator.due(step)
                if evaluate or save:
                    self._finish(*unread)
                    unread = None
                if evaluate:
                    self._evaluate(step, state)
                if save:
                    self._save(state)
                if stop or position.is_stale(config.checkpoint):
                    break
        if position.is_stale(config.checkpoint):
            self._console.print(
                f"Ended after step {position.step}: {config.checkpoint.best_metric} has not become "
                f"better in {config.checkpoint.patience} checkpoints."
            )
            return None
        return signals.received if position.step < config.steps else None

    def _next(self, step: int, running: jax.Array | None) -> Batch:
        """The batch of a step; ``running`` is a result of the step before, if one is under way."""
        began = time.perf_counter()
        try:
            batch = next(self._batches)
        except Exception:
            # A signal to the whole process group has ended the loader's workers, say; the step
            # must still be made, as other processes may be making it.
            logging.warning("step %d: the data loader failed; it starts again", step, exc_info=True)
            self._batches = self._pipeline.batches(step - 1, self._trainer.local_rows)
            batch = next(self._batches)
        # Devices that were still at work when the batch came have not waited for it. Those that
        # became ready meanwhile have, for a part of this time; it counts in full.
        if running is None or running.is_ready():
            self._waited += time.perf_counter() - began
        return batch

    def _finish(self, step: int, batch: Batch, metrics: dict[str, jax.Array]) -> None:
        """Awaits a step, checks it, moves the position, and logs where that is due."""
        config, position = self._config, self._position
        values = {
            name: value if isinstance(value, Histogram) else float(value)
            for name, value in jax.device_get(metrics).items()
        }
        self._checkpoints.check()
        if math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"]):
            self._skipped = 0
            position.loss = values["loss"]
            if not self._best_by_evaluation:
                self._values.append(self._best_metric(values))
        else:
            self._non_finite(step, batch, values)
        position.step = step
        position.examples += config.batch_size
        self._replaced += len(batch.replaced)
        position.wall_seconds = time.perf_counter() - self._began
        for reason in batch.replaced:
            logging.warning("step %d: an unreadable example was replaced: %s", step, reason)
        self._progress.update(step, values["loss"])
        if step % config.log_every == 0 or step in (1, config.steps):
            self._share_counts()
            seconds = time.perf_counter() - self._interval_began
            examples = position.examples - self._interval_examples
            rate = examples / seconds
            values |= {
                "examples_per_second": rate,
                "wall_seconds": position.wall_seconds,
                "data/wait": self._waited / seconds,  # share of the time, at most
                "data/replaced": position.replaced,
                "skipped": position.skipped,
                **self._meter.measure(examples // config.batch_size, seconds),
                **self._of_sources(step),
            }
            if self._log is not None:
                self._log.write(step, values)
            seconds_left = (config.steps - step) * config.batch_size / rate
            self._progress.logged(step, values["loss"], rate, seconds_left)
            self._restart_interval()

    def _of_sources(self, step: int) -> dict[str, float]:
        """What the run has seen of each source, where there are several."""
        names = self._config.data.source_names
        if len(names) < 2:
            return {}
        found = {}
        for name, (rows, epochs) in zip(names, self._pipeline.seen(step), strict=True):
            found |= {f"data/rows/{name}": rows, f"data/epochs/{name}": epochs}
        return found

    def _evaluate(self, step: int, state: TrainState) -> None:
        """Logs the evaluations after a step; the rates of training do not count their time.

        Before the checkpoint of the step, so that a run that continues from it has them too.
        """
        began = time.perf_counter()
        metrics = self._evaluator(step, state.params)
        name = self._config.checkpoint.best_metric
        if name in metrics:  # not every evaluation is due after every such step
            self._values.append(metrics[name])
        if self._log is not None:
            self._log.write(step, metrics)
        self._progress.evaluated(step, metrics)
        self._interval_began += time.perf_counter() - began

    def _open_log(self) -> contextlib.AbstractContextManager[RunLog | None]:
        """The log of the first process; ``None`` in every other."""
        if not first_process():
            return contextlib.nullcontext()
        return RunLog(self._run_dir, self._position.step, self._watch.wandb, self._config)

    def _restart_interval(self) -> None:
        self._interval_began = time.perf_counter()
        self._interval_examples = self._position.examples
        self._waited = 0.0

    def _time_to_save(self) -> bool:
        """Whether ``checkpoint.minutes`` have passed; all processes ask after the same step."""
        seconds = 60 * self._config.checkpoint.minutes
        return seconds > 0 and of_first(lambda: time.monotonic() - self._saved >= seconds)

    def _save(self, state: TrainState) -> None:
        self._saved = time.monotonic()
        self._share_counts()
        if self._log is not None:
            self._log.publish()
        values = [value for value in self._values if math.isfinite(value)]
        worst = math.inf if self._config.checkpoint.best_is == "lowest" else -math.inf
        value = sum(values) / len(values) if values else worst
        if values:
            self._position.judge(value, self._config.checkpoint)
        self._checkpoints.save(state, dataclasses.asdict(self._position), value)
        self._values.clear()

    def _best_metric(self, values: dict[str, Any]) -> float:
        name = self._config.checkpoint.best_metric
        if not isinstance(values.get(name), float):
            known = [known for known, value in values.items() if isinstance(value, float)]
            raise ConfigError(
                f"checkpoint.best_metric: a step has no metric '{name}'{nearest(name, known)}; it "
                f"has {', '.join(sorted(known))}"
            )
        return values[name]

    def _share_counts(self) -> None:
        """Adds what every process has replaced; all of them call this after the same step."""
        self._position.replaced += sum(self._of_all_rows(self._replaced))
        self._replaced = 0

    def _of_all_rows(self, value: Any) -> list[Any]:
        """The processes' values, one for each set of rows: several may hold the same rows."""
        return list(dict(gather((tuple(self._trainer.local_rows.tolist()), value))).values())

    def _non_finite(self, step: int, batch: Batch, values: dict[str, Any]) -> None:
        """Names the records of a broken step; raises NonFiniteLoss unless it may be skipped."""
        path = self._run_dir / "non_finite.jsonl"
        ids = [name for share in self._of_all_rows(batch.ids) for name in share]
        numbers = {name: repr(v) for name, v in values.items() if isinstance(v, float)}
        if first_process():
            add_row(path, {"step": step, "ids": ids} | numbers)
        more = len(ids) - _NAMED_RECORDS
        message = (
            f"step {step}: loss {values['loss']}, gradient norm {values['gradient_norm']}. "
            f"Examples of the batch: {', '.join(ids[:_NAMED_RECORDS])}"
            + (f" and {more} more" if more > 0 else "")
            + f" (all in '{path}'). "
        )
        self._skipped += 1
        self._position.skipped += 1
        if self._config.on_non_finite == "skip" and self._skipped < _MOST_SKIPPED:
            self._console.print(f"{message}Its update is left out.", style="yellow")
            return
        self._checkpoints.wait()
        good = newest(self._run_dir)
        raise NonFiniteLoss(
            message
            + (f"{self._skipped} steps in a row are broken. " if self._skipped > 1 else "")
            + (f"Last good checkpoint: '{good}'." if good else "No checkpoint was saved yet.")
        )
