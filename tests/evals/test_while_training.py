"""Evaluations within a run: the checkpoint's own figures, and the training that it would be."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.helpers.small_run import computed, small_config, small_evaluation, write_clips
from tests.helpers.subprocesses import PROGRAMS
from tests.helpers.tiny import tiny_text_config
from vljepa_jax.config import (
    BenchmarkConfig,
    ChooseConfig,
    ConfigError,
    PeriodicEvaluation,
    as_dict,
)
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.evaluate import evaluate
from vljepa_jax.evals.examples import EvaluationError
from vljepa_jax.evals.while_training import Evaluator
from vljepa_jax.inference.model import Model
from vljepa_jax.run_dir import kept_steps, load_params
from vljepa_jax.training.run_log import read_metrics
from vljepa_jax.training.train_loop import train, train_to_end

STEPS = 6


def with_evaluations(config, *intervals):
    benchmarks = small_evaluation(config).benchmarks
    named = [
        tuple(dataclasses.replace(b, name=f"{b.name}{every}") for b in benchmarks)
        for every in intervals
    ]
    plans = [
        PeriodicEvaluation(every=every, benchmarks=own, batch_size=4, num_workers=0)
        for every, own in zip(intervals, named, strict=True)
    ]
    return dataclasses.replace(config, evaluations=tuple(plans))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "clips"
    write_clips(directory)
    return small_config(directory, steps=STEPS)


@pytest.fixture(scope="module")
def config(plain):
    return with_evaluations(plain, 2, 4)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    train(config, workdir)
    return workdir


def evaluated(workdir):
    """Step -> the metrics of its evaluation."""
    rows = [row for row in read_metrics(workdir) if "loss" not in row]
    return {row.pop("step"): row for row in rows}


def test_each_has_its_interval_and_the_last_step_has_all(finished):
    ran = {step: {name.split("_")[0] for name in row} for step, row in evaluated(finished).items()}
    often, seldom = "eval/clips/t2v2", "eval/clips/t2v4"
    assert ran == {2: {often}, 4: {often, seldom}, 6: {often, seldom}}
    events = b"".join(path.read_bytes() for path in (finished / "tensorboard").iterdir())
    assert b"eval/clips/t2v4_r1" in events


def test_they_are_those_of_the_checkpoint(config, finished):
    (plan, _) = config.evaluations
    for step in (4, 6):
        model = Model(*load_params(finished, step=step), batch_size=4)
        (result,) = evaluate(model, plan.benchmarks, Datasets(config.world, 0))
        expected = {f"eval/{name}": metric.value for name, metric in result.metrics.items()}
        row = evaluated(finished)[step]
        assert {name: row[name] for name in expected} == expected


def test_training_is_what_it_is_without_them(plain, finished, tmp_path):
    train(plain, tmp_path / "run")
    rows = [row for row in computed(finished) if "loss" in row]
    assert rows == computed(tmp_path / "run")
    trees = [load_params(workdir)[1] for workdir in (finished, tmp_path / "run")]
    jax.tree.map(np.testing.assert_array_equal, *trees)


def test_the_best_checkpoint_is_that_of_an_evaluation(plain, tmp_path, monkeypatch):
    """Kept beside the newest; by these values, whatever the losses say."""
    values = {2: 0.5, 4: 0.9, 6: 0.1}
    monkeypatch.setattr(
        Evaluator, "__call__", lambda self, step, params: {"eval/clips/t2v2_r1": values[step]}
    )
    config = with_evaluations(plain, 2)
    best = {"keep": 1, "keep_best": 1, "best_metric": "eval/clips/t2v2_r1", "best_is": "highest"}
    config = dataclasses.replace(
        config, checkpoint=dataclasses.replace(config.checkpoint, every=2, **best)
    )
    train(config, tmp_path / "run")
    assert kept_steps(tmp_path / "run") == [4, 6]

    def refused(config, message, **checkpoint):
        checkpoint = dataclasses.replace(config.checkpoint, **checkpoint)
        with pytest.raises(ConfigError, match=message):
            train(dataclasses.replace(config, checkpoint=checkpoint), tmp_path / "other")

    unknown = r"no evaluation gives 'eval/clips/t2v2_r9'.*they give .*eval/clips/t2v2_r1"
    refused(config, unknown, best_metric="eval/clips/t2v2_r9")
    refused(dataclasses.replace(config, evaluations=()), "config.evaluations is empty")


def test_a_run_ends_when_checkpoints_become_no_better(plain, tmp_path, monkeypatch, capsys):
    """An equal one is no better. The same command, and the next stage, take it as ended."""
    values = {2: 0.5, 4: 0.5, 6: 0.9}
    monkeypatch.setattr(
        Evaluator, "__call__", lambda self, step, params: {"eval/clips/t2v2_r1": values[step]}
    )
    config = with_evaluations(plain, 2)
    best = {"keep": 1, "keep_best": 1, "best_metric": "eval/clips/t2v2_r1", "best_is": "highest"}
    checkpoint = dataclasses.replace(config.checkpoint, every=2, **best)
    ending = dataclasses.replace(
        config, checkpoint=dataclasses.replace(checkpoint, patience=1), steps=6
    )
    train(ending, tmp_path / "run")
    assert kept_steps(tmp_path / "run")[-1] == 4
    assert "has not become better in 1 checkpoints" in " ".join(capsys.readouterr().out.split())
    train_to_end(ending, tmp_path / "run")
    assert kept_steps(tmp_path / "run")[-1] == 4
    assert "ended at step 4; nothing is left" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ConfigError, match=r"patience = 2 .* keep_best = 0 .*; set keep_best = 1"):
        dataclasses.replace(checkpoint, patience=2, keep_best=0)


def test_a_killed_run_evaluates_what_is_lost_and_no_more(config, finished, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(as_dict(config)))
    command = [sys.executable, PROGRAMS / "interrupted_run.py", tmp_path / "config.json"]
    killed = subprocess.run([*command, tmp_path / "run", "logged", "5"], env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    train(config, tmp_path / "run")
    assert computed(tmp_path / "run") == computed(finished)


def test_what_cannot_be_evaluated_is_refused_before_training(plain, tmp_path):
    config = with_evaluations(plain, 2)
    (plan,) = config.evaluations
    (benchmark,) = plan.benchmarks

    def refused(config, message):
        with pytest.raises(ConfigError, match=message):
            train(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    nothing = dataclasses.replace(benchmark, filter={"task": "vqa"})
    empty = dataclasses.replace(plan, benchmarks=(nothing,))
    refused(dataclasses.replace(config, evaluations=(empty,)), r"has \{'task': 'vqa'\}")
    twice = dataclasses.replace(plan, every=3)
    refused(dataclasses.replace(config, evaluations=(plan, twice)), "would be logged twice")
    for field in ("every", "batch_size"):
        with pytest.raises(ConfigError, match=f"{field} = 0 .*must be at least 1"):
            dataclasses.replace(plan, **{field: 0})
    words = dataclasses.replace(tiny_text_config("language_model"), evaluations=config.evaluations)
    with pytest.raises(ConfigError, match="objective 'language_model', and no VL-JEPA"):
        Evaluator(words)


def test_one_example_that_cannot_be_scored_is_told_before_training(config, tmp_path):
    def asked(name, candidates):
        return Annotation(name, "vqa", "which", candidates=candidates, gold=0)

    rows = (asked("sound", ("a", "b")), asked("lacking", ("a",)))
    records = {"test": [Record("clip", (Medium(data=b"never read"),), rows)]}
    write_dataset(tmp_path / "mixed", records, name="mixed", description="", labels={})
    path = str(tmp_path / "mixed")
    mixed = BenchmarkConfig("mixed", "", ChooseConfig(), path, "test", {}, None, 0)
    plan = dataclasses.replace(config.evaluations[0], benchmarks=(mixed,))
    with pytest.raises(EvaluationError, match="example 'lacking' has fewer than two"):
        Evaluator(dataclasses.replace(config, evaluations=(plan,)))
