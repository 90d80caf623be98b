import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.helpers.small_run import computed, small_config, write_clips
from tests.helpers.subprocesses import PROGRAMS
from vljepa_jax.config import ConfigError, as_dict
from vljepa_jax.objectives.vljepa import VLJEPAObjective
from vljepa_jax.ownership import LOCK, InUse, owned
from vljepa_jax.run_dir import load_params, newest, read_metrics
from vljepa_jax.training import train_loop
from vljepa_jax.training.checkpoint_writer import Checkpoints
from vljepa_jax.training.train_loop import NonFiniteLoss, train
from vljepa_jax.training.train_step import Trainer

STEPS = 8


@pytest.fixture(scope="module", autouse=True)
def compilation_cache(tmp_path_factory):
    """The same step is compiled by many runs here."""
    directory = str(tmp_path_factory.mktemp("compilation_cache"))
    settings = {
        "jax_compilation_cache_dir": directory,
        "jax_persistent_cache_min_compile_time_secs": 0.5,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield {name.upper(): str(value) for name, value in settings.items()}
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "clips"
    write_clips(directory)
    return small_config(directory, steps=STEPS)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    train(config, workdir)
    return workdir


def same_params(one, other):
    trees = [load_params(workdir)[1] for workdir in (one, other)]
    return all(map(np.array_equal, *map(jax.tree.leaves, trees)))


def test_a_run_leaves_its_files(config, finished):
    rows = read_metrics(finished)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert json.loads((finished / "config.json").read_text()) == json.loads(
        json.dumps(as_dict(config))
    )
    summary = json.loads((finished / "train.json").read_text())
    assert summary["steps"] == STEPS
    assert summary["final_loss"] == rows[-1]["loss"]
    assert summary["wall_seconds"] == rows[-1]["wall_seconds"] > 0
    assert summary["examples_per_second"] == pytest.approx(
        STEPS * config.batch_size / summary["wall_seconds"]
    )
    assert list((finished / "tensorboard").glob("events.out.tfevents.*"))
    kept = sorted(int(path.name) for path in (finished / "checkpoints").iterdir())
    assert kept == [STEPS - 2, STEPS]
    restored, params = load_params(finished)
    assert restored == config
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))


def test_unreadable_examples_are_counted(finished):
    counts = [row["data/replaced"] for row in read_metrics(finished)]
    assert counts == sorted(counts)
    assert 0 < counts[-1] < STEPS * 8


def test_a_finished_run_says_so(config, finished, capsys):
    before = (finished / "metrics.jsonl").read_text()
    train(config, finished)
    assert f"all {STEPS} steps" in capsys.readouterr().out.replace("\n", " ")
    assert (finished / "metrics.jsonl").read_text() == before


# moment, step -> the checkpoint that is left. Checkpoints are of every second step.
@pytest.mark.parametrize(
    ("moment", "step", "left"),
    [
        pytest.param("logged", 1, {None}, marks=pytest.mark.slow),
        # A race between a write and the kill.
        pytest.param("logged", 5, {"2", "4"}, marks=pytest.mark.slow),
        ("begun", 4, {"2", "4"}),
        ("complete", 4, {"2"}),
        pytest.param("named", 6, {"6"}, marks=pytest.mark.slow),
    ],
)
def test_killed_run_continues_bitwise(
    config, finished, tmp_path, compilation_cache, moment, step, left
):
    workdir = tmp_path / "run"
    config_path = tmp_path / "config.json"
    config_path.write_text(json.dumps(as_dict(config)))
    script = PROGRAMS / "interrupted_run.py"
    killed = subprocess.run(
        [sys.executable, str(script), str(config_path), str(workdir), moment, str(step)],
        env=os.environ | compilation_cache,
    )
    assert killed.returncode == -signal.SIGKILL
    kept = newest(workdir)
    assert (kept and kept.name) in left
    if moment in ("complete", "named"):  # it died where it was meant to
        names = {path.name for path in (workdir / "checkpoints").iterdir()}
        assert names == {"2", "4", "6"} if moment == "named" else len(names) == 2
    assert not (workdir / "train.json").exists()
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # as a kill inside a write leaves it

    train(config, workdir)
    kept = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    assert kept == [str(STEPS - 2), str(STEPS)]
    assert computed(workdir) == computed(finished)
    assert same_params(workdir, finished)
    assert json.loads((workdir / "train.json").read_text())["steps"] == STEPS


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_stops(config, finished, tmp_path, monkeypatch, capsys, number):
    class SignallingLog(train_loop.RunLog):
        def write(self, step, metrics):
            super().write(step, metrics)
            if step == 2:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(train_loop, "RunLog", SignallingLog)
        with pytest.raises(SystemExit) as stopped:
            train(config, tmp_path)
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert f"{number.name}: step 3 of {STEPS} is saved" in capsys.readouterr().out
    assert newest(tmp_path).name == "3"

    train(config, tmp_path)
    assert computed(tmp_path) == computed(finished)
    assert same_params(tmp_path, finished)


def test_a_lost_data_loader_starts_again(config, finished, tmp_path, monkeypatch):
    """As where a signal goes to the whole process group."""
    lost = []

    class KillingLog(train_loop.RunLog):
        def write(self, step, metrics):
            super().write(step, metrics)
            if step == 2:
                lost.extend(multiprocessing.active_children())
                for worker in lost:
                    worker.terminate()

    monkeypatch.setattr(train_loop, "RunLog", KillingLog)
    train(
        dataclasses.replace(config, data=dataclasses.replace(config.data, num_workers=1)), tmp_path
    )
    assert len(lost) == 1
    assert computed(tmp_path) == computed(finished)
    assert same_params(tmp_path, finished)


@pytest.mark.parametrize("under_way", [True, False])
def test_waiting_for_data_counts_while_devices_have_nothing_to_do(under_way, monkeypatch):
    class Result:
        def is_ready(self):
            return not under_way

    clock = iter((10.0, 10.5))
    monkeypatch.setattr(train_loop.time, "perf_counter", lambda: next(clock))
    run = object.__new__(train_loop._Run)
    run._batches, run._waited = iter(["batch"]), 1.0
    assert run._next(2, Result()) == "batch"
    assert run._waited == (1.0 if under_way else 1.5)


def test_a_workdir_has_one_training(config, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    with owned(tmp_path / "run"), pytest.raises(InUse, match=f"process {os.getpid()} on"):
        train(config, tmp_path / "run")
    train(config, tmp_path / "run")
    assert not (tmp_path / "run" / LOCK).exists()


def test_another_config_is_refused(config, finished):
    optimizer = dataclasses.replace(config.optimizer, beta1=0.8)
    changed = dataclasses.replace(config, optimizer=optimizer, seed=7)
    with pytest.raises(ConfigError) as refused:
        train(changed, finished)
    assert "optimizer.beta1: 0.9 -> 0.8" in str(refused.value)
    assert "seed: 0 -> 7" in str(refused.value)
    assert "beta2" not in str(refused.value)


def test_init_from_full_takes_state_and_position(config, finished, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(finished, source)
    shutil.rmtree(source / "checkpoints" / str(STEPS))
    train(dataclasses.replace(config, init_from=f"{source}:full"), tmp_path / "run")
    expected = computed(finished)[STEPS - 2 :]
    for row, goal in zip(computed(tmp_path / "run"), expected, strict=True):
        assert row | {"data/replaced": None} == goal | {"data/replaced": None}
    assert same_params(tmp_path / "run", finished)


def test_init_from_a_finished_run_needs_more_steps(config, finished, tmp_path):
    with pytest.raises(ConfigError, match=f"steps: {STEPS}, but init_from starts at step {STEPS}"):
        train(dataclasses.replace(config, init_from=f"{finished}:full"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_config_that_cannot_run_leaves_nothing(config, tmp_path):
    source = dataclasses.replace(config.data.sources[0], path=str(tmp_path / "nowhere"))
    data = dataclasses.replace(config.data, sources=(source,))
    with pytest.raises(ConfigError, match=r"data.sources\[0\].path: .*nowhere"):
        train(dataclasses.replace(config, data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("broken", ["loss", "gradient_norm"])
def test_a_broken_step_stops_and_names_the_batch(config, tmp_path, monkeypatch, broken):
    compile_step = Trainer.compile

    def compile_breaking(self, spec):
        step = compile_step(self, spec)

        def breaks_at_5(state, arrays):
            state, metrics = step(state, arrays)
            return state, metrics | (
                {broken: jax.numpy.inf * metrics[broken]} if state.step == 5 else {}
            )

        return breaks_at_5

    monkeypatch.setattr(Trainer, "compile", compile_breaking)
    with pytest.raises(NonFiniteLoss) as first:
        train(config, tmp_path)
    message = str(first.value)
    (report,) = read_report(tmp_path)
    assert message.startswith("step 5: ")
    assert report["step"] == 5
    assert report[broken] == "inf"
    assert len(report["ids"]) == config.batch_size
    assert all(name in message for name in report["ids"])
    assert newest(tmp_path).name == "4"
    assert f"Last good checkpoint: '{newest(tmp_path)}'" in message
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4]
    assert not (tmp_path / "train.json").exists()
    with pytest.raises(NonFiniteLoss) as again:
        train(config, tmp_path)
    assert str(again.value) == message
    assert read_report(tmp_path) == [report]


def read_report(workdir):
    return [json.loads(line) for line in (workdir / "non_finite.jsonl").read_text().splitlines()]


def poison(patch, broken_steps):
    """Makes predictions NaN at some steps."""
    compile_step, represent = Trainer.compile, VLJEPAObjective.represent

    def compile_poisoned(self, spec):
        rows = spec["video"][0][0]
        step = compile_step(self, spec | {"poison": ((rows, 1), np.dtype(np.float32))})

        def run(state, arrays):
            value = np.nan if int(state.step) + 1 in broken_steps else 0
            return step(state, arrays | {"poison": np.full((rows, 1), value, np.float32)})

        return run

    def represent_poisoned(self, params, extra, arrays, rng):
        pairs = represent(self, params, extra, arrays, rng)
        return dataclasses.replace(pairs, predicted=pairs.predicted + arrays["poison"])

    patch.setattr(Trainer, "compile", compile_poisoned)
    patch.setattr(VLJEPAObjective, "represent", represent_poisoned)


def test_a_broken_step_is_skipped(config, tmp_path, monkeypatch, capsys):
    states = []
    with monkeypatch.context() as patch:
        save = Checkpoints.save

        def remember(self, state, *rest):
            states.append(jax.device_get(state))
            save(self, state, *rest)

        poison(patch, {3})
        patch.setattr(Checkpoints, "save", remember)
        each = dataclasses.replace(config.checkpoint, every=1)
        skipping = dataclasses.replace(config, on_non_finite="skip", steps=4, checkpoint=each)
        train(skipping, tmp_path)
    assert [int(state.step) for state in states] == [1, 2, 3, 4]
    for part in ("params", "opt_state"):
        leaves = [jax.tree.leaves(getattr(state, part)) for state in states]
        assert all(map(np.array_equal, leaves[1], leaves[2]))  # step 3 changed nothing
        assert not all(map(np.array_equal, leaves[2], leaves[3]))
        assert all(np.isfinite(leaf).all() for leaf in leaves[3])
    (report,) = read_report(tmp_path)
    assert (report["step"], report["loss"], len(report["ids"])) == (3, "nan", config.batch_size)
    assert [row["skipped"] for row in read_metrics(tmp_path)] == [0, 0, 1, 1]
    assert "Its update is left out" in " ".join(capsys.readouterr().out.split())


def test_a_checkpoint_is_due_after_minutes_too(config, tmp_path):
    """By steps alone there would be one, at the end."""
    for name, minutes, kept in (("steps", 0.0, {"4"}), ("minutes", 1e-9, {"3", "4"})):
        due = dataclasses.replace(config.checkpoint, every=100, minutes=minutes)
        train(dataclasses.replace(config, steps=4, checkpoint=due), tmp_path / name)
        found = {path.name for path in (tmp_path / name / "checkpoints").iterdir()}
        assert found == kept


def test_too_many_broken_steps_stop_a_run_that_skips(config, tmp_path, monkeypatch):
    poison(monkeypatch, set(range(3, 100)))
    monkeypatch.setattr(train_loop, "_MOST_SKIPPED", 3)
    with pytest.raises(NonFiniteLoss, match="3 steps in a row are broken. Last good checkpoint"):
        train(dataclasses.replace(config, on_non_finite="skip"), tmp_path)
    assert [row["step"] for row in read_report(tmp_path)] == [3, 4, 5]


def test_an_unknown_best_metric_is_named(config, tmp_path):
    wrong = dataclasses.replace(config.checkpoint, best_metric="acuracy/to_target")
    with pytest.raises(ConfigError, match="did you mean 'accuracy/to_target'"):
        train(dataclasses.replace(config, checkpoint=wrong), tmp_path)


def test_cached_tokens_need_a_frozen_x_encoder(config, tmp_path):
    data = dataclasses.replace(config.data, visual_tokens="cache")
    with pytest.raises(ConfigError, match="freeze it or set 'compute'"):
        train(dataclasses.replace(config, data=data), tmp_path)
