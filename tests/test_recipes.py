"""The recipes in configs/ as a whole; each is parsed, and those that belong together agree."""

import runpy
from pathlib import Path

import pytest

from vljepa_jax.config import EvalConfig, TrainConfig, parse

CONFIGS = Path(__file__).parents[1] / "configs"


def recipe(name, *variant):
    return runpy.run_path(str(CONFIGS / name))["get_config"](*variant)


@pytest.mark.parametrize("variant", ["", "image", "clips"])
def test_demo_and_its_evaluation_share_one_world(variant):
    trained = parse(TrainConfig, recipe("demo.py", variant))
    assert trained.world == parse(EvalConfig, recipe("eval/world.py")).world


def test_own_clips_name_their_dataset():
    config = parse(EvalConfig, recipe("eval/clips.py", "some/where"))
    assert {benchmark.path for benchmark in config.benchmarks} == {"some/where"}
    with pytest.raises(ValueError, match="name a dataset"):
        recipe("eval/clips.py")
