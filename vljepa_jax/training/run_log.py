"""Where a run's metrics go: ``metrics.jsonl``, TensorBoard, W&B if asked, the progress line.

``metrics.jsonl`` holds one JSON object a logged step, and one an evaluation while training. Opened
at step s it is cut back to s: what a killed run logged after its last checkpoint is computed, and
logged, again.

An object in a bucket cannot be appended to. The log of a run there is written to a temporary
directory on disk, and its files go to the bucket whole: once a minute, before each checkpoint (so
that none is without the log that led to it), and at the end.
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
import rich.progress
import tensorboardX

from vljepa_jax.config import ConfigError, TrainConfig, as_dict
from vljepa_jax.losses import Histogram
from vljepa_jax.places import AnyPath, in_bucket, write_text
from vljepa_jax.run_dir import CheckpointError, read_metrics

_PUBLISH_SECONDS = 60  # a log in a bucket is this old at most


class RunLog:
    """The metrics of one run directory, continued after ``step``."""

    def __init__(
        self, run_dir: AnyPath, step: int, wandb: str = "", config: TrainConfig | None = None
    ) -> None:
        """Opens the files.

        Args:
            wandb: the Weights & Biases project that scalars go to as well; "" for none.
            config: of the run, shown there.

        Raises:
            ConfigError: ``wandb`` is asked for, but not installed.
            CheckpointError: as from all methods: a bucket cannot be written to.
        """
        self._run_dir = run_dir
        self._scratch = tempfile.TemporaryDirectory() if in_bucket(run_dir) else None
        self._local = Path(self._scratch.name) if self._scratch else run_dir
        self._published = time.monotonic()
        path = self._local / "metrics.jsonl"
        kept = [row for row in read_metrics(run_dir) if row["step"] <= step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = path.open("a")
        self._tensorboard = tensorboardX.SummaryWriter(
            str(self._local / "tensorboard"), purge_step=step + 1, flush_secs=10
        )
        self._wandb = _open_wandb(wandb, run_dir, self._local, config) if wandb else None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()
        self._publish()
        if self._scratch is not None:
            self._scratch.cleanup()

    def write(self, step: int, metrics: Mapping[str, float | Histogram]) -> None:
        """Logs a step; histograms go to TensorBoard alone."""
        scalars = {k: v for k, v in metrics.items() if not isinstance(v, Histogram)}
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            if isinstance(value, Histogram):
                self._add_histogram(name, value, step)
            else:
                self._tensorboard.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(scalars, step=step)
        if time.monotonic() - self._published >= _PUBLISH_SECONDS:
            self.publish()

    def publish(self) -> None:
        """Brings a log in a bucket up to date; called before a checkpoint is saved."""
        if self._scratch is not None:
            self._tensorboard.flush()
            self._publish()

    def _publish(self) -> None:
        if self._scratch is None:
            return
        try:
            for path in [self._local / "metrics.jsonl", *self._local.glob("tensorboard/*")]:
                target = self._run_dir / str(path.relative_to(self._local))
                target.write_bytes(path.read_bytes())
        except Exception as error:  # of the bucket's client, which has tried several times
            raise CheckpointError(
                f"the log cannot be written to '{self._run_dir}': {error}\nMend this, and the same "
                "command continues."
            ) from error
        self._published = time.monotonic()

    def _add_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        counts = np.asarray(histogram.counts)
        edges = np.linspace(histogram.low, histogram.high, len(counts) + 1)
        centres = (edges[:-1] + edges[1:]) / 2  # all that is known of the values
        self._tensorboard.add_histogram_raw(
            name,
            min=histogram.low,
            max=histogram.high,
            num=int(counts.sum()),
            sum=float(counts @ centres),
            sum_squares=float(counts @ centres**2),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )


def _open_wandb(project: str, run_dir: AnyPath, local: Path, config: TrainConfig | None) -> Any:
    """The run of this directory there: the same one, however often the command is given.

    Args:
        local: where W&B keeps files of its own.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("--wandb: it is not installed; pip install wandb") from error
    path = run_dir / "wandb.json"
    if not path.exists():
        write_text(path, json.dumps({"id": uuid.uuid4().hex[:12]}) + "\n")
    return wandb.init(
        project=project,
        id=json.loads(path.read_text())["id"],
        name=run_dir.name,
        dir=str(local),
        config=as_dict(config) if config is not None else None,
        resume="allow",
    )


def add_row(path: AnyPath, row: Mapping[str, Any]) -> None:
    """Adds the row of a step to a JSONL file, in the place of those of this step and later ones."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if json.loads(line)["step"] < row["step"]]
    write_text(path, "".join(line + "\n" for line in [*kept, json.dumps(row)]))


class Progress:
    """Step, loss, rate and time left: a live line on a terminal, else one line a logged step."""

    def __init__(self, start: int, steps: int, console: rich.console.Console) -> None:
        self._console = console
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.fields[loss]}"),
            rich.progress.TextColumn("{task.fields[rate]}"),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._steps = steps
        self._task = self._bar.add_task("train", total=steps, completed=start, loss="", rate="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def update(self, step: int, loss: float) -> None:
        self._bar.update(self._task, completed=step, loss=f"loss {loss:.4f}")

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Prints the metrics of an evaluation after a step."""
        shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        self._console.print(f"step {step}: {shown}", highlight=False)

    def logged(self, step: int, loss: float, rate: float, seconds_left: float) -> None:
        """A logged step; ``rate`` in examples per second."""
        self.update(step, loss)
        self._bar.update(self._task, rate=f"{rate:.1f} examples/s")
        if self._bar.disable:
            minutes, seconds = divmod(round(seconds_left), 60)
            self._console.print(
                f"step {step}/{self._steps}  loss {loss:.4f}  {rate:.1f} examples/s  "
                f"{minutes}:{seconds:02} left",
                highlight=False,
            )
