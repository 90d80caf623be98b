"""The recipes in configs/ as a whole; each is parsed, and those that belong together agree."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax.sharding import AbstractMesh

from vljepa_jax.config import ConfigError, EvalConfig, TrainConfig, differences, load_recipe, parse
from vljepa_jax.data.world.language import label_sets
from vljepa_jax.datasets import registry
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import AXES, state_shardings
from vljepa_jax.training.optimizer import make_optimizer

CONFIGS = Path(__file__).parents[2] / "configs"


def recipe(name, *variant):
    return load_recipe(CONFIGS / name, *variant)


@pytest.mark.parametrize("variant", ["", "captions"])
def test_demo_and_its_evaluation_share_one_world(variant):
    trained = parse(TrainConfig, recipe("demo.py", variant))
    assert trained.world == parse(EvalConfig, recipe("eval/world.py")).world


def test_finetuning_goes_on_from_the_demo():
    adapted, demo = (
        parse(TrainConfig, recipe(*name))
        for name in (("finetune.py", "datasets/clips"), ("demo.py",))
    )
    assert adapted.model == demo.model
    assert adapted.data.video == demo.data.video
    assert adapted.data.text == demo.data.text
    assert adapted.data.sources[0].path == "datasets/clips"
    with pytest.raises(ValueError, match="name a dataset"):
        recipe("finetune.py")


@pytest.mark.parametrize("variant", ["", "ek100", "coin"])
def test_what_comes_next_is_learnt_from_a_model_that_knows_queries(variant):
    config = parse(TrainConfig, recipe("anticipation.py", variant))
    base = recipe("vljepa_1b.py", "sft") if variant else recipe("demo.py")
    assert config.model == parse(TrainConfig, base).model
    assert config.data.text == parse(TrainConfig, base).data.text
    (source,) = config.data.sources
    assert source.tasks == {"classification": 1.0}
    if variant:
        assert config.init_from == "runs/vljepa_1b_sft"
        adapter = registry.load(source.path.removeprefix("datasets/"))
        assert source.split in [split.name for split in adapter.splits]
    else:
        evaluated = parse(EvalConfig, recipe("eval/world_steps.py"))
        assert (evaluated.world, source.split) == (config.world, "steps_train")
        assert {benchmark.split for benchmark in evaluated.benchmarks} == {"steps_test"}
        assert config.world.seed != parse(TrainConfig, base).world.seed


PROBES = [("probe.py", variant) for variant in ("attentive", "linear")]
STAGE_0 = [
    ("vjepa2.py", size + stage)
    for size in ("tiny", "vitl", "vith", "vitg")
    for stage in ("", "_cooldown")
]


@pytest.mark.parametrize(("name", "variant"), PROBES + STAGE_0)
def test_recipes_share_one_world_and_cover_their_parameters(name, variant):
    config = parse(TrainConfig, recipe(name, variant))
    assert config.world == parse(EvalConfig, recipe("eval/world.py")).world
    params, extra = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    make_optimizer(config.optimizer, config.steps, params)
    mesh = AbstractMesh((1, 1, 1), AXES)
    state_shardings({"params": params, "extra": extra}, params, config.sharding.rules, mesh)
    assert sum(leaf.size for leaf in jax.tree.leaves(params["x_encoder"])) / 1e6 == pytest.approx(
        {"tiny": 2.075, "vitl": 303.9, "vith": 630.8, "vitg": 1011.4}[
            variant.removesuffix("_cooldown") if name == "vjepa2.py" else "tiny"
        ],
        rel=0.01,
    )


def test_probes_are_of_the_tiny_encoder_and_know_the_label_sets():
    config = parse(TrainConfig, recipe("probe.py"))
    assert config.model.x_encoder == parse(TrainConfig, recipe("vjepa2.py")).model.x_encoder
    sizes = {name: len(labels) for name, labels in label_sets().items()}
    assert config.model.label_sets == sizes


def test_unknown_variants_are_named():
    for name in ("probe.py", "vjepa2.py", "y_decoder.py", "y_decoder_1b.py", "anticipation.py"):
        with pytest.raises(ValueError, match="no variant 'large'"):
            recipe(name, "large")


def test_an_evaluation_without_a_world_asks_nothing_of_it():
    assert parse(EvalConfig, recipe("eval/clips.py", "some/where")).world is None
    with pytest.raises(ConfigError, match="benchmark 'clips/t2v' is on \"@world\"; configs/eval"):
        parse(EvalConfig, recipe("eval/clips.py", "@world"))
    world = parse(EvalConfig, recipe("eval/world.py"))
    with pytest.raises(ConfigError, match="the study of streams is on"):
        dataclasses.replace(world, world=None, benchmarks=())
    dataclasses.replace(world, world=None, benchmarks=(), stream=None)


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
        ("x_encoder.py", "reader"),
        ("language_model.py", "causal"),
        ("language_model.py", None),
        ("y_encoder.py", None),
    ],
)
def test_backbones_learn_from_worlds_that_nothing_else_uses(name, variant):
    config = parse(TrainConfig, recipe(name, *([] if variant is None else [variant])))
    demo = parse(TrainConfig, recipe("demo.py"))
    assert config.world.seed != demo.world.seed
    assert {(source.path, source.split) for source in config.data.sources} == {("@world", "train")}


Y_DECODERS = [("y_decoder.py", "demo.py", ""), ("y_decoder_1b.py", "vljepa_1b.py", "sft")]


@pytest.mark.parametrize(("name", "embedder", "stage"), Y_DECODERS)
@pytest.mark.parametrize("variant", ["", "predicted"])
def test_y_decoders_are_of_their_vljepa_and_cover_their_parameters(name, embedder, stage, variant):
    config = parse(TrainConfig, recipe(name, variant))
    vljepa = parse(TrainConfig, recipe(embedder, stage))
    assert config.model.vljepa == vljepa.model
    assert config.data.text.embedded == vljepa.data.text
    if variant:
        assert config.data.video.frames == vljepa.data.video.frames
    params, extra = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    optimizer = make_optimizer(config.optimizer, config.steps, params)
    assert optimizer.split(params)[0].keys() == {"y_prefix", "y_token_embedding", "y_decoder"}
    mesh = AbstractMesh((1, 1, 1), AXES)
    state_shardings({"params": params, "extra": extra}, params, config.sharding.rules, mesh)


def test_the_small_y_decoder_is_the_last_half_of_the_bundled_language_model():
    made = parse(TrainConfig, recipe("language_model.py")).model.predictor
    config = parse(TrainConfig, recipe("y_decoder.py"))
    half = made.num_layers // 2
    assert config.model.y_decoder == dataclasses.replace(made, num_layers=half, first_layer=half)
    assert config.world == parse(TrainConfig, recipe("demo.py")).world


READ = """
import sys
from vljepa_jax.config import command_line
sys.path[:] = [place for place in sys.path if place not in ("", sys.argv[1])]
del sys.argv[1]
config = command_line.define_config("")
command_line.run(lambda: print(config.value.to_json()))
"""


def read_by_a_command(recipe, *overrides, cwd):
    """The recipe as commands read it, where Python does not search the repository for modules."""
    command = [sys.executable, "-c", READ, str(CONFIGS.parent), f"--config={recipe}", *overrides]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "name", ["demo.py:captions", "finetune.py:some/where", "eval/world.py", "eval/streams.py"]
)
def test_commands_find_what_recipes_share_from_any_directory(name, tmp_path):
    assert read_by_a_command(CONFIGS / name, cwd=tmp_path)["world"]["train_clips"] == 5_000


def test_a_tree_of_recipes_shares_its_own(tmp_path):
    shutil.copytree(CONFIGS, tmp_path / "tree" / "configs")
    common = tmp_path / "tree" / "configs" / "common.py"
    common.write_text(common.read_text().replace('"train_clips": 5_000', '"train_clips": 5'))
    config = read_by_a_command("tree/configs/y_decoder.py", cwd=tmp_path)
    assert config["world"]["train_clips"] == 5


def test_a_recipe_copied_elsewhere_shares_the_package_s(tmp_path):
    (tmp_path / "configs").mkdir()
    shutil.copy(CONFIGS / "demo.py", tmp_path / "configs" / "mine.py")
    config = read_by_a_command("configs/mine.py", cwd=tmp_path)
    assert config["world"]["train_clips"] == 5_000


def test_what_recipes_share_can_be_overridden(tmp_path):
    flags = (
        "seed=7",
        "world.seed=8",
        "model.predictor.causal=true",
        "optimizer.rules[2].lr_multiplier=0.5",
    )
    changed = read_by_a_command(
        CONFIGS / "demo.py", *(f"--config.{flag}" for flag in flags), cwd=tmp_path
    )
    as_it_is = read_by_a_command(CONFIGS / "demo.py", cwd=tmp_path)
    assert differences(as_it_is, changed) == [
        "model.predictor.causal: False -> True",
        "optimizer.rules[2].lr_multiplier: 0.05 -> 0.5",
        "seed: 0 -> 7",
        "world.seed: 0 -> 8",
    ]


def test_each_call_gives_a_config_of_its_own():
    first, untouched = recipe("probe.py"), parse(TrainConfig, recipe("probe.py"))
    first.world.train_clips = 1
    first.model.label_sets.motions = 1
    first.model.x_encoder.num_layers = 1
    first.optimizer.rules[0].lr_multiplier = 9.0
    first.sharding.rules[0].pattern = "nothing"
    assert parse(TrainConfig, recipe("probe.py")) == untouched


@pytest.mark.parametrize("stage", ["image", "video8", "video32", "sft"])
def test_the_published_size_by_name_is_the_papers(stage):
    """configs/vljepa_1b.py spells out what other recipes call "vitl"."""
    paper = parse(TrainConfig, recipe("vljepa_1b.py", stage)).model.x_encoder
    named = parse(TrainConfig, recipe("vjepa2.py", "vitl")).model.x_encoder
    assert dataclasses.replace(named, num_frames=paper.num_frames) == paper
