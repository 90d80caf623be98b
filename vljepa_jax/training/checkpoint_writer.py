"""Writes a run's checkpoints while it goes on (``checkpoint.py`` says what they hold)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from vljepa_jax.buckets import commit_options
from vljepa_jax.config import CheckpointConfig
from vljepa_jax.places import AnyPath, in_bucket
from vljepa_jax.run_dir import CheckpointError, directory_of, newest
from vljepa_jax.training.checkpoint import training_of
from vljepa_jax.training.train_state import TrainState

_VALUE = "value"  # by which the best checkpoints are chosen, among what Orbax saves


class Checkpoints:
    """Writes the checkpoints of one run directory; every process of a run calls every method.

    Saves are asynchronous: ``save`` returns when the state has been copied off the devices, and
    what is wrong with a write shows at the next call. Leave through ``with`` to await the last.
    An old checkpoint goes only when the new one is complete. All methods raise CheckpointError
    where a checkpoint cannot be written.
    """

    def __init__(self, run_dir: AnyPath, config: CheckpointConfig) -> None:
        """Keeps the checkpoints that ``config`` names; the caller knows when they are due."""
        self._directory = directory_of(run_dir)
        policies = [managers.LatestN(max(1, config.keep))]
        if config.keep_every:
            policies.append(managers.EveryNSteps(config.keep_every))
        if config.keep_best:
            policies.append(
                managers.BestN(
                    get_metric_fn=_saved_value,
                    n=config.keep_best,
                    reverse=config.best_is == "lowest",  # the last of the sorted ones stay
                )
            )
        self._manager = ocp.CheckpointManager(
            self._directory,
            item_names=("params", "training", "progress"),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=managers.AnyPreservationPolicy(policies),
                best_fn=_saved_value,  # or the values would not be saved
                cleanup_tmp_directories=True,  # what a killed process left of an unfinished save
                **commit_options(self._directory),
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: Any) -> None:
        with self._explained():
            self._manager.close()

    def save(self, state: TrainState, progress: Mapping[str, Any], value: float) -> None:
        """Starts to save.

        Args:
            progress: JSON; its "step" names the checkpoint.
            value: by which the best checkpoints are chosen.
        """
        with self._explained():
            self._manager.wait_until_finished()  # the one before, and what it made superfluous
        self._check_space(state)
        with self._explained():
            self._manager.save(
                progress["step"],
                metrics={_VALUE: value},
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.params),
                    training=ocp.args.StandardSave(training_of(state)),
                    progress=ocp.args.JsonSave(dict(progress)),
                ),
            )

    def check(self) -> None:
        """Looks, without waiting, whether a save under way has failed."""
        with self._explained():
            self._manager.check_for_errors()

    def wait(self) -> None:
        """Returns when what ``save`` started lies on disk."""
        with self._explained():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of Orbax, TensorStore or the file system
            raise CheckpointError(
                f"a checkpoint cannot be written to '{self._directory}': {error}\n{self._left()}"
            ) from error

    def _check_space(self, state: TrainState) -> None:
        if in_bucket(self._directory):
            return
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self._directory).free
        if free < needed:
            raise CheckpointError(
                f"the disk of '{self._directory}' is full: a checkpoint takes {needed / 1e9:.3f} "
                f"GB, and {free / 1e9:.3f} GB are free.\n{self._left()}"
            )

    def _left(self) -> str:
        path = newest(self._directory.parent)
        kept = f"'{path}' is kept" if path else "No checkpoint was saved before"
        return f"{kept}; mend this, and the same command continues."


def _saved_value(metrics: Mapping[str, float]) -> float:
    return metrics[_VALUE]
