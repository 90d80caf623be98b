"""The backbones that come with the package: what they are, and what they have never seen."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import rich.console
from safetensors.numpy import load_file

import vljepa_jax
from vljepa_jax import checkpoint
from vljepa_jax.config import TrainConfig, parse
from vljepa_jax.convert.families import PARTS
from vljepa_jax.convert.published import BOXED, backbone_directory, convert_checkpoint
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.data.world import pairs
from vljepa_jax.data.world.build import list_tasks, task_rng
from vljepa_jax.data.world.scene import draw_cast

BOX = Path(vljepa_jax.__file__).parent / "backbones"
ROOT = Path(__file__).parents[2]


def recipe_of(part):
    return parse(TrainConfig, json.loads((BOX / part / "recipe.json").read_text()))


def test_the_box_is_small():
    weights = [BOX / part / "model.safetensors" for part in PARTS]
    assert sum(path.stat().st_size for path in weights) < 10e6
    for path in weights:
        assert {array.dtype.name for array in load_file(path).values()} == {"bfloat16"}


@pytest.mark.parametrize("part", PARTS)
def test_no_backbone_saw_a_test_clip_or_a_held_out_pair(part):
    recipe = recipe_of(part)
    assert {(source.path, source.split) for source in recipe.data.sources} == {("@world", "train")}
    assert recipe.world.seed in (101, 102)  # the worlds of evaluation have other seeds
    clips = [task for task in list_tasks(recipe.world, "train") if task.kind == "clip"]
    for task in clips[:: max(1, len(clips) // 500)]:
        cast = draw_cast(task_rng(recipe.world, task), unseen=False)
        assert not pairs.held_out() & {(thing.name, motion) for thing, motion in cast}


@pytest.mark.parametrize("part", ["predictor", "y_encoder"])
def test_the_tokenizer_is_the_worlds(part):
    beside = Tokenizer(str(BOX / part / "tokenizer.json"))
    texts = ["A red book spins.", "How many objects are there?"]
    for ours, theirs in zip(
        beside.encode(texts, 16), Tokenizer("@world").encode(texts, 16), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_the_demo_starts_from_the_box(tmp_path):
    recipe = runpy.run_path(str(ROOT / "configs" / "demo.py"))
    config = parse(TrainConfig, recipe["get_config"]())
    directories = {part: backbone_directory(part, BOXED) for part in PARTS}
    convert_checkpoint(config, directories, tmp_path / "start", rich.console.Console(quiet=True))
    _, params = checkpoint.load_params(tmp_path / "start")
    published = load_file(BOX / "predictor" / "model.safetensors")
    prefix = "model." if any(key.startswith("model.") for key in published) else ""
    first = published[f"{prefix}layers.{config.model.predictor.first_layer}.mlp.up_proj.weight"]
    np.testing.assert_array_equal(
        params["predictor"]["layers"]["mlp"]["up"]["kernel"][0], first.astype(np.float32).T
    )
