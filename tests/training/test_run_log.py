import io
import struct
import sys
import types

import numpy as np
import pytest
import rich.console
import tensorboardX
from tensorboardX.proto import event_pb2

from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import ConfigError
from vljepa_jax.losses import Histogram
from vljepa_jax.run_dir import CheckpointError, read_metrics
from vljepa_jax.training import run_log
from vljepa_jax.training.run_log import Progress, RunLog


def test_rows_are_written_and_read(tmp_path):
    with RunLog(tmp_path, 0) as log:
        log.write(1, {"loss": 0.1, "rate": 1e-3})
        # A reader sees a row as soon as it is written.
        assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.1, "rate": 1e-3}]


def test_continuing_cuts_back_to_the_step(tmp_path):
    with RunLog(tmp_path, 0) as log:
        for step in range(1, 6):
            log.write(step, {"loss": 1.0 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    with RunLog(tmp_path, 3) as log:
        log.write(4, {"loss": 9.0})
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [
        (1, 1.0),
        (2, 1 / 2),
        (3, 1 / 3),
        (4, 9.0),
    ]


def test_tensorboard_gets_scalars_and_forgets_lost_steps(tmp_path, monkeypatch):
    calls = []

    class Writer(tensorboardX.SummaryWriter):
        def __init__(self, directory, **options):
            calls.append(options["purge_step"])
            super().__init__(directory, **options)

        def add_scalar(self, *scalar):
            calls.append(scalar)
            super().add_scalar(*scalar)

    monkeypatch.setattr(run_log.tensorboardX, "SummaryWriter", Writer)
    with RunLog(tmp_path, 3) as log:
        log.write(4, {"accuracy/to_target": 0.5})
    assert calls == [4, ("accuracy/to_target", 0.5, 4)]
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"accuracy/to_target" in events.read_bytes()


def test_tensorboard_gets_histograms(tmp_path):
    """Read back from the event file: a quarter between -1 and -0.5, the rest above 0.5."""
    with RunLog(tmp_path, 0) as log:
        log.write(1, {"loss": 2.0, "similarity": Histogram(np.array([1, 0, 0, 3]), -1.0, 1.0)})
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]
    (path,) = (tmp_path / "tensorboard").iterdir()
    events, position = path.read_bytes(), 0
    found = {}
    while position < len(events):  # a record: its length, a checksum, the event, a checksum
        (length,) = struct.unpack_from("<Q", events, position)
        event = event_pb2.Event.FromString(events[position + 12 : position + 12 + length])
        found |= {value.tag: value for value in event.summary.value}
        position += length + 16
    histogram = found["similarity"].histo
    filled = {
        limit: count
        for limit, count in zip(histogram.bucket_limit, histogram.bucket, strict=True)
        if count
    }
    assert filled == {-0.5: 1, 1.0: 3}
    assert (histogram.num, histogram.min, histogram.max) == (4, -1, 1)
    assert histogram.sum == -0.75 + 3 * 0.75


def test_a_broken_row_in_the_middle_is_no_silence(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(CheckpointError, match="metrics.jsonl, line 2: is no JSON"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_step_loss_rate_and_time_left(terminal):
    output = io.StringIO()
    console = rich.console.Console(file=output, force_terminal=terminal, width=100)
    with Progress(0, 40, console) as progress:
        progress.update(1, 3.5)
        progress.logged(10, 2.25, 123.4, 61.0)
    text = output.getvalue()
    assert "10/40" in text
    assert "2.2500" in text
    assert "123.4 examples/s" in text
    assert "left" in text
    assert terminal or text == "step 10/40  loss 2.2500  123.4 examples/s  1:01 left\n"


class FakeWandb(types.ModuleType):
    """Remembers what it is told."""

    def __init__(self):
        super().__init__("wandb")
        self.inits, self.logged, self.finished = [], [], 0

    def init(self, **settings):
        self.inits.append(settings)
        return self

    def log(self, metrics, step):
        self.logged.append((step, metrics))

    def finish(self):
        self.finished += 1


def test_wandb_gets_scalars_and_a_continued_run_is_the_same_one(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = tiny_train_config()
    for step in (0, 2):
        with RunLog(tmp_path, step, "project", config) as log:
            log.write(step + 1, {"loss": 0.5})
    assert fake.logged == [(1, {"loss": 0.5}), (3, {"loss": 0.5})]
    assert fake.finished == 2
    first, second = fake.inits
    assert first == second  # its id too, which is drawn at random
    assert (first["project"], first["name"]) == ("project", tmp_path.name)
    assert first["config"]["batch_size"] == config.batch_size


def test_wandb_is_not_needed_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with RunLog(tmp_path, 0) as log:
        log.write(1, {"loss": 0.5})
    with pytest.raises(ConfigError, match="pip install wandb"):
        RunLog(tmp_path, 0, "project")
