"""Training on what comes next in the world's streams, and its two benchmarks."""

import dataclasses
from pathlib import Path

import pytest

import vljepa_jax
from tests.helpers.tiny import tiny_train_config, tiny_world_config
from tests.helpers.trained import trained_losses
from vljepa_jax.config import EvalConfig, load_recipe, parse
from vljepa_jax.data.world import streams
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.evaluate import evaluate

RECIPE = Path(__file__).parents[2] / "configs" / "eval" / "world_steps.py"


def test_steps_are_trained_on_and_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "SECONDS", (60.0, 60.0))  # or it takes minutes
    base = tiny_train_config(steps=2)
    none = dict.fromkeys(("train_clips", "test_clips", "compositional_clips", "streams"), 0)
    world = dataclasses.replace(tiny_world_config(str(tmp_path)), **none, step_streams=1)
    (source,) = base.data.sources
    source = dataclasses.replace(source, split="steps_train", tasks={"classification": 1.0})
    data = dataclasses.replace(base.data, sources=(source,))
    config = dataclasses.replace(base, world=world, data=data)
    assert len(trained_losses(config, tmp_path / "steps")) == 2

    asked = dataclasses.replace(parse(EvalConfig, load_recipe(RECIPE)), world=world)
    datasets = Datasets(world, num_workers=0)
    results = evaluate(vljepa_jax.load(tmp_path / "steps"), asked.benchmarks, datasets)
    metrics = {name: metric for result in results for name, metric in result.metrics.items()}
    assert metrics.keys() == {
        *("world/anticipation_top1", "world/anticipation_r5"),
        *("world/next_step_top1", "world/next_step_r5"),
    }
    tags = [a.tags for _, a in datasets.annotations("@world", "steps_test")]
    for kind in ("anticipation", "next_step"):
        recall = metrics[f"world/{kind}_r5"]
        assert recall.n == sum(tag["kind"] == kind for tag in tags) > 5
        classes = {
            a.gold
            for _, a in datasets.annotations("@world", "steps_test")
            if a.tags["kind"] == kind
        }
        assert recall.chance == pytest.approx(max(5 / 14, 5 / len(classes)))
    assert not any(result.unreadable for result in results)
