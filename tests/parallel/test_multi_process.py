"""Runs of several processes on this machine, joined by jax.distributed: equal to one process."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.helpers.evaluated import evaluate_run
from tests.helpers.small_run import computed, small_config, small_evaluation, write_clips
from tests.helpers.subprocesses import PROGRAMS, free_port
from vljepa_jax import run_dir
from vljepa_jax.config import OptimizerRule, PeriodicEvaluation, as_dict
from vljepa_jax.training.train_loop import train

STEPS = 6


def on_cached_tokens(directory):
    """A config whose frozen X-Encoder's tokens are kept beside the clips, with evaluations."""
    write_clips(directory)
    config = small_config(directory, steps=STEPS)
    frozen = OptimizerRule(
        pattern="^x_encoder/", frozen=True, lr_multiplier=0.0, weight_decay_multiplier=0.0
    )
    rules = (frozen, *config.optimizer.rules)
    video = dataclasses.replace(config.data.video, sampling="uniform", crop="centre")
    data = dataclasses.replace(config.data, video=video, visual_tokens="cache")
    optimizer = dataclasses.replace(config.optimizer, rules=rules)
    benchmarks = small_evaluation(config).benchmarks
    plan = PeriodicEvaluation(every=4, benchmarks=benchmarks, batch_size=4, num_workers=0)
    return dataclasses.replace(config, data=data, optimizer=optimizer, evaluations=(plan,))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return on_cached_tokens(tmp_path_factory.mktemp("data") / "clips")


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    """The run of one process with one device."""
    workdir = tmp_path_factory.mktemp("alone")
    train(config, workdir)
    evaluation = small_evaluation(config)
    evaluate_run(workdir, evaluation, evaluation.benchmarks, workdir)
    return workdir


def run(config, workdir, processes, devices, data, fsdp, tensor=1, fatal_step=0):
    """Trains with so many processes of so many devices each; returns how they ended."""
    sharding = dataclasses.replace(config.sharding, data=data, fsdp=fsdp, tensor=tensor)
    workdir.mkdir(exist_ok=True)
    path = workdir.parent / "config.json"
    path.write_text(json.dumps(as_dict(dataclasses.replace(config, sharding=sharding))))
    port = free_port()
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    script = PROGRAMS / "one_of_several.py"
    arguments = [str(path), str(workdir), str(fatal_step)]
    started = [
        subprocess.Popen(
            [sys.executable, str(script), str(port), str(processes), str(index), *arguments],
            env=os.environ | {"XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(processes)
    ]
    try:
        outputs = [process.communicate(timeout=900)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], outputs


def found(workdir):
    """What the evaluation measured."""
    metrics = json.loads((workdir / "report.json").read_text())["metrics"]
    return {name: (metric["value"], metric["n"]) for name, metric in metrics.items()}


def held(workdir, processes):
    return [
        json.loads((workdir / f"rows-{processes}-{index}.json").read_text())
        for index in range(processes)
    ]


def assert_same_run(workdir, alone):
    """The losses and all other metrics to 1e-4, counts exactly, and the parameters to 1e-4."""
    rows, expected = computed(workdir), computed(alone)
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, STEPS + 1))
    assert [row["step"] for row in rows if "loss" not in row] == [4, STEPS]
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-5)
        assert row.get("data/replaced") == other.get("data/replaced")
    assert max(row.get("data/replaced", 0) for row in expected) > 0
    _, params = run_dir.load_params(workdir)
    _, others = run_dir.load_params(alone)
    for leaf, other in zip(jax.tree.leaves(params), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-4)


def test_two_processes_are_one(config, alone, tmp_path):
    """Four devices as (data 2, fsdp 2): a process's rows are two pieces of the batch.

    They compute the X-Encoder's tokens too: here the clips have none beside them yet.
    """
    config = on_cached_tokens(tmp_path / "clips")
    codes, outputs = run(config, tmp_path / "run", processes=2, devices=2, data=2, fsdp=2)
    assert codes == [0, 0], outputs
    assert held(tmp_path / "run", 2) == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert_same_run(tmp_path / "run", alone)
    assert found(tmp_path / "run") == found(alone)
    embedded = [
        json.loads((tmp_path / "run" / f"embedded-2-{index}.json").read_text()) for index in (0, 1)
    ]
    assert sorted(embedded) == [5, 6]  # of twelve clips one cannot be read
    assert outputs[0].count("step 1/6") == 1
    assert "step 1/6" not in outputs[1]  # the first alone speaks


@pytest.mark.slow
def test_a_run_goes_on_with_other_processes_on_another_mesh(config, alone, tmp_path):
    """Two processes are told to stop, by a signal to one of them; four go on."""
    workdir = tmp_path / "run"
    codes, outputs = run(config, workdir, 2, 1, data=2, fsdp=1, fatal_step=2)
    assert codes == [128 + 15] * 2, outputs
    stopped = int(run_dir.newest(workdir).name)
    assert 2 <= stopped < STEPS
    assert f"SIGTERM: step {stopped} of {STEPS} is saved" in " ".join(outputs[0].split())

    codes, outputs = run(config, workdir, 4, 1, data=1, fsdp=2, tensor=2)
    assert codes == [0] * 4, outputs
    # Two of them differ in the tensor axis alone: both need the same rows.
    assert held(workdir, 4) == [[0, 1, 2, 3]] * 2 + [[4, 5, 6, 7]] * 2
    assert_same_run(workdir, alone)
    assert found(workdir) == found(alone)
