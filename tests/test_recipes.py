"""The recipes in configs/ as a whole; each is parsed, and those that belong together agree."""

import dataclasses
import runpy
from pathlib import Path

import pytest

from vljepa_jax.config import EvalConfig, TrainConfig, parse

CONFIGS = Path(__file__).parents[1] / "configs"


def recipe(name, *variant):
    return runpy.run_path(str(CONFIGS / name))["get_config"](*variant)


@pytest.mark.parametrize("variant", ["", "captions", "clips"])
def test_demo_and_its_evaluation_share_one_world(variant):
    trained = parse(TrainConfig, recipe("demo.py", variant))
    assert trained.world == parse(EvalConfig, recipe("eval/world.py")).world


def test_own_clips_name_their_dataset():
    config = parse(EvalConfig, recipe("eval/clips.py", "some/where"))
    assert {benchmark.path for benchmark in config.benchmarks} == {"some/where"}
    with pytest.raises(ValueError, match="name a dataset"):
        recipe("eval/clips.py")


@pytest.mark.parametrize("part", ["x_encoder", "predictor", "y_encoder"])
def test_the_demo_takes_the_backbones_that_the_recipes_make(part):
    name = {"predictor": "language_model.py"}.get(part, f"{part}.py")
    demo, made = (
        dataclasses.asdict(getattr(parse(TrainConfig, recipe(n)).model, part))
        for n in ("demo.py", name)
    )
    if part == "predictor":  # the last half of the layers, without the causal mask
        assert (made.pop("causal"), demo.pop("causal")) == (True, False)
        assert made["num_layers"] == 2 * demo["num_layers"] == 2 * demo["first_layer"]
        for config in (made, demo):
            del config["num_layers"], config["first_layer"]
    assert demo == made


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("x_encoder.py", "single"),
        ("x_encoder.py", ""),
        ("language_model.py", None),
        ("y_encoder.py", None),
    ],
)
def test_backbones_learn_from_worlds_that_nothing_else_uses(name, variant):
    config = parse(TrainConfig, recipe(name, *([] if variant is None else [variant])))
    demo = parse(TrainConfig, recipe("demo.py"))
    assert config.world.seed != demo.world.seed
    assert {(source.path, source.split) for source in config.data.sources} == {("@world", "train")}
