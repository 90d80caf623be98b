"""The backbones that come with the package: what they are, and what they have never seen."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import rich.console
from safetensors.numpy import load_file

import vljepa_jax
from vljepa_jax import run_dir
from vljepa_jax.config import TokenTargetConfig, TrainConfig, VLMConfig, load_recipe, parse
from vljepa_jax.config.saved import read_saved
from vljepa_jax.convert.export import export_checkpoint
from vljepa_jax.convert.published import BUNDLED, backbone_directory, convert_checkpoint
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.data.world import pairs
from vljepa_jax.data.world.build import list_tasks, task_rng
from vljepa_jax.data.world.scene import draw_cast

NAMES = ("x_encoder", "predictor", "y_encoder")
BACKBONES = Path(vljepa_jax.__file__).parent / "backbones"
ROOT = Path(__file__).parents[2]


def recipe_of(part):
    return read_saved(BACKBONES / part / "recipe.json")


def test_the_bundled_backbones_are_small():
    weights = [BACKBONES / part / "model.safetensors" for part in NAMES]
    assert sum(path.stat().st_size for path in weights) < 10e6
    for path in weights:
        assert {array.dtype.name for array in load_file(path).values()} == {"bfloat16"}


@pytest.mark.parametrize("part", NAMES)
def test_no_backbone_saw_a_test_clip_or_a_held_out_pair(part):
    recipe = recipe_of(part)
    assert {(source.path, source.split) for source in recipe.data.sources} == {("@world", "train")}
    assert recipe.world.seed in range(101, 105)  # the worlds of evaluation have other seeds
    clips = [task for task in list_tasks(recipe.world, "train") if task.kind == "clip"]
    for task in clips[:: max(1, len(clips) // 500)]:
        cast = draw_cast(task_rng(recipe.world, task), unseen=False)
        assert not pairs.held_out() & {(thing.name, motion) for thing, motion in cast}


@pytest.mark.parametrize("part", ["predictor", "y_encoder"])
def test_the_tokenizer_is_the_worlds(part):
    beside = Tokenizer(str(BACKBONES / part / "tokenizer.json"))
    texts = ["A red book spins.", "How many objects are there?"]
    for ours, theirs in zip(
        beside.encode(texts, 16), Tokenizer("@world").encode(texts, 16), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_the_demo_starts_from_the_bundled_backbones(tmp_path):
    config = parse(TrainConfig, load_recipe(ROOT / "configs" / "demo.py"))
    directories = {part: backbone_directory(part, BUNDLED) for part in NAMES}
    convert_checkpoint(config, directories, tmp_path / "start", rich.console.Console(quiet=True))
    _, params = run_dir.load_params(tmp_path / "start")
    published = load_file(BACKBONES / "predictor" / "model.safetensors")
    prefix = "model." if any(key.startswith("model.") for key in published) else ""
    first = published[f"{prefix}layers.{config.model.predictor.first_layer}.mlp.up_proj.weight"]
    np.testing.assert_array_equal(
        params["predictor"]["layers"]["mlp"]["up"]["kernel"][0], first.astype(np.float32).T
    )


def test_a_y_decoder_starts_from_the_bundled_language_model_and_goes_out_again(
    tmp_path,
):
    console = rich.console.Console(quiet=True)
    config = parse(TrainConfig, load_recipe(ROOT / "configs" / "y_decoder.py"))
    directory = backbone_directory("y_decoder", BUNDLED)
    convert_checkpoint(config, {"y_decoder": directory}, tmp_path / "start", console)
    _, params = run_dir.load_params(tmp_path / "start")
    published = load_file(BACKBONES / "predictor" / "model.safetensors")
    prefix = "model." if any(key.startswith("model.") for key in published) else ""
    words = published[f"{prefix}embed_tokens.weight"].astype(np.float32)
    np.testing.assert_array_equal(params["y_token_embedding"]["embedding"], words)
    up = published[f"{prefix}layers.3.mlp.up_proj.weight"].astype(np.float32).T
    np.testing.assert_array_equal(params["y_decoder"]["layers"]["mlp"]["up"]["kernel"][1], up)
    export_checkpoint(tmp_path / "start", tmp_path / "out", console)
    again = load_file(tmp_path / "out" / "y_decoder" / "model.safetensors")
    np.testing.assert_array_equal(again["embed_tokens.weight"], words)
    assert (tmp_path / "out" / "y_decoder" / "tokenizer.json").is_file()
    rest = load_file(tmp_path / "out" / "y_decoder.safetensors")
    assert {name.split("/")[0] for name in rest} == {"y_encoder", "y_head", "y_prefix"}


def test_a_vlm_starts_from_the_bundled_backbones_and_goes_out_again(tmp_path):
    console = rich.console.Console(quiet=True)
    reader = parse(TrainConfig, load_recipe(ROOT / "configs" / "x_encoder.py", "reader"))
    model = VLMConfig(reader.model.x_encoder, reader.model.predictor, "float32", "none", False)
    data = dataclasses.replace(reader.data, text=TokenTargetConfig("@world", 16, 24, "[EOS]"))
    config = dataclasses.replace(reader, objective="vlm", model=model, data=data)
    parts = ("x_encoder", "predictor")
    directories = {part: backbone_directory(part, BUNDLED) for part in parts}
    convert_checkpoint(config, directories, tmp_path / "start", console)
    export_checkpoint(tmp_path / "start", tmp_path / "out", console)
    for part in parts:
        bundled = load_file(BACKBONES / part / "model.safetensors")
        again = load_file(tmp_path / "out" / part / "model.safetensors")
        assert again
        for name, array in again.items():
            key = next(key for key in (name, f"model.{name}") if key in bundled)
            if "layers." not in name:  # of which the predictor has the last ones
                np.testing.assert_array_equal(array, bundled[key].astype(np.float32))
    assert (tmp_path / "out" / "predictor" / "tokenizer.json").is_file()
    rest = load_file(tmp_path / "out" / "vlm.safetensors")
    assert {name.split("/")[0] for name in rest} == {"vision_projection"}
