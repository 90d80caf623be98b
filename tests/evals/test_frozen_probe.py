"""Probing a run: what is trained, what is scored, and what the report says."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.helpers.sample_media import png
from tests.helpers.tiny import tiny_pretraining_config, tiny_probe_config
from vljepa_jax import run_dir
from vljepa_jax.config import ConfigError, OptimizerRule, SourceConfig
from vljepa_jax.data.records import Annotation, Label, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.evals.probe import score_probe, with_x_encoder, write_probe_report
from vljepa_jax.objectives import make_objective
from vljepa_jax.training.train_loop import train

ROOT = Path(__file__).parents[2]
SPLITS = ("test", "test_compositional", "nowhere")


def record(index, broken=False):
    """A picture in one of three grey levels; the level is asked for under two kinds of questions,
    the second of which asks for something that cannot be seen."""
    level = index % 3
    picture = np.full((32, 32, 3), 100 * level + index % 7, np.uint8)
    ask = lambda kind, name, labels, gold: Annotation(  # noqa: E731
        f"{index}-{name}",
        "vqa",
        name,
        candidates=labels,
        gold=gold,
        tags={"kind": kind} if kind else {},
    )
    return Record(
        str(index),
        (Medium(data=b"?" * 30 if broken else png(picture)),),
        (
            ask("level", "level", "@labels/motions", level),
            ask("", "noise", "@labels/objects", (index * 7 + 3) % 5),
            ask("level", "again", "@labels/motions", level),
            ask("other", "other", ("a", "b"), 0),
        ),
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "levels"
    labels = {"motions": "abc", "objects": "vwxyz"}
    write_dataset(
        directory,
        {
            "train": [record(i) for i in range(60)],
            "test": [record(i) for i in range(60, 99)],
            "test_compositional": [record(i, broken=i == 100) for i in range(99, 105)],
        },
        name="levels",
        description="",
        labels={
            name: tuple(Label(text, (text,)) for text in texts) for name, texts in labels.items()
        },
    )
    base = tiny_probe_config(steps=150, batch_size=32, log_every=50)
    video = dataclasses.replace(base.data.video, sampling="uniform", crop="centre")
    frozen = OptimizerRule(
        "^x_encoder/", frozen=True, lr_multiplier=0.0, weight_decay_multiplier=0.0
    )
    rules = (frozen, *base.optimizer.rules)
    return dataclasses.replace(
        base,
        checkpoint=dataclasses.replace(base.checkpoint, every=base.steps),  # each takes a while
        data=dataclasses.replace(
            base.data,
            sources=(SourceConfig(str(directory), "train", 1.0, {}, {}),),
            video=video,
            visual_tokens="cache",
            text=dataclasses.replace(base.data.text, per_clip=2),
        ),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=1e-2, rules=rules),
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of stage 0 with random parameters."""
    directory = tmp_path_factory.mktemp("runs") / "stage0"
    config = tiny_pretraining_config()
    params, _ = make_objective(config).init(jax.random.key(0))
    run_dir.save_params(directory, config, params)
    return directory, config


@pytest.fixture(scope="module")
def probes(config, source, tmp_path_factory):
    directory, stage0 = source
    output = tmp_path_factory.mktemp("probed")
    found = {}
    for kind in ("attentive", "linear"):
        found[kind] = output / kind
        train(with_x_encoder(config, stage0, directory, kind), found[kind])
    return found


@pytest.mark.parametrize("kind", ["attentive", "linear"])
def test_a_probe_reads_what_is_to_be_seen(probes, source, kind):
    """Even a random encoder tells three levels of grey apart; what cannot be seen stays at
    chance; an unreadable clip is wrong."""
    scores = score_probe(probes[kind], SPLITS)
    assert scores.keys() == {
        f"{kind}_top1{end}" for kind in ("level", "objects") for end in ("", "_compositional")
    }
    level = scores["level_top1"]
    assert (level.metric.n, level.unreadable, level.split) == (78, 0, "test")
    assert level.metric.value > 0.9
    assert level.metric.chance == pytest.approx(1 / 3)
    noise = scores["objects_top1"].metric
    assert noise.interval[0] <= noise.chance
    other = scores["level_top1_compositional"]
    assert (other.metric.n, other.unreadable) == (12, 1)
    assert other.metric.value <= 10 / 12
    encoder = run_dir.load_params(source[0])[1]["x_encoder"]
    jax.tree.map(
        np.testing.assert_array_equal, run_dir.load_params(probes[kind])[1]["x_encoder"], encoder
    )


def test_the_report(probes, tmp_path, capsys):
    write_probe_report(tmp_path, probes, SPLITS, "runs/stage0")
    made = json.loads((tmp_path / "report.json").read_text())
    names = {f"probe/{probe}/level_top1_compositional" for probe in probes}
    assert names < made["metrics"].keys()
    row = made["metrics"]["probe/linear/level_top1"]
    assert row.keys() >= {"value", "chance", "n", "interval", "split", "path", "unreadable"}
    assert made["config"]["evaluation"]["probed"] == "runs/stage0"
    assert "Probes of runs/stage0" in (tmp_path / "report.html").read_text()
    shown = capsys.readouterr().out
    assert "probe/attentive/level_top1" in shown
    assert "33.3" in shown


def test_only_an_attentive_probe_is_a_recipe(source):
    directory, stage0 = source
    for config in (stage0, tiny_probe_config(linear=True)):
        with pytest.raises(ConfigError, match="a recipe of an attentive probe"):
            with_x_encoder(config, stage0, directory, "linear")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=o"], "give either --checkpoint or --x_encoder"),
        (["--output=o", "--checkpoint=a", "--x_encoder=b"], "give either --checkpoint or"),
        (["--output=o", "--checkpoint=a", "--probes=cubic"], "--probes must be attentive, linear"),
        (["--output=o", "--checkpoint=none"], "'none' is not a run directory"),
    ],
)
def test_a_wrong_command_is_answered_in_a_line(arguments, message):
    command = [sys.executable, "launch/probe.py", "--config=configs/probe.py", *arguments]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr
