"""The open model's recipes against the page that walks through them, and the datasets they name."""

import dataclasses
from pathlib import Path

import jax
import pytest
from jax.sharding import AbstractMesh

from tests.programs.open_rehearsal import commands
from vljepa_jax.config import EvalConfig, TrainConfig, load_recipe, parse
from vljepa_jax.config.published_sizes import PUBLISHED
from vljepa_jax.datasets import registry
from vljepa_jax.objectives import make_objective
from vljepa_jax.parallel.sharding import AXES, state_shardings
from vljepa_jax.training.optimizer import make_optimizer

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs" / "vljepa_open.py"
STAGES = ("_captions", "", "_y_decoder", "_y_decoder_predicted")


def recipe(variant):
    return parse(TrainConfig, load_recipe(RECIPE, variant))


@pytest.mark.parametrize("size", ["small", "base"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_has_its_rules_and_every_dataset_its_adapter(size, stage):
    config = recipe(size + stage)
    params, extra = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    make_optimizer(config.optimizer, config.steps, params)
    mesh = AbstractMesh((1, 1, 1), AXES)
    state_shardings({"params": params, "extra": extra}, params, config.sharding.rules, mesh)
    for source in config.data.sources:
        adapter = registry.load(source.path.removeprefix("datasets/"))
        assert source.split in [split.name for split in adapter.splits]
        assert source.tasks.keys() == {adapter.task}


@pytest.mark.parametrize(("size", "llama", "half"), [("small", "135m", 15), ("base", "360m", 16)])
def test_the_predictor_is_the_last_half_of_the_decoder(size, llama, half):
    whole = PUBLISHED[f"smollm2-{llama}"]
    assert whole.num_layers == 2 * half
    slice_ = dataclasses.replace(whole, first_layer=half, num_layers=half, causal=False)
    model = recipe(size).model
    assert model.predictor == slice_
    assert model.embedding_size <= model.predictor.hidden_size  # what --align asks for
    decoded = recipe(f"{size}_y_decoder").model
    assert (decoded.vljepa, decoded.y_decoder) == (model, whole)
    assert recipe(f"{size}_captions").model == model


def test_it_is_evaluated_on_splits_that_it_does_not_train_on():
    evaluation = parse(EvalConfig, load_recipe(ROOT / "configs/eval/open.py"))
    trained = {(s.path, s.split) for s in recipe("small").data.sources}
    for benchmark in evaluation.benchmarks:
        assert benchmark.path in {path for path, _ in trained}
        assert (benchmark.path, benchmark.split) not in trained


def test_the_page_runs_every_stage_in_order():
    """What the rehearsal takes from it: each stage is trained once, from what is there by then."""
    page = (ROOT / "docs" / "open_model.md").read_text()
    walked = [words for words in commands(page) if words[0] != "launch/plan.py"]
    assert {words[0] for words in walked} == {
        *("launch/prepare.py", "launch/convert.py", "launch/train.py", "launch/eval.py")
    }
    made, trained = set(), []
    for script, *words in walked:
        given = dict(word.removeprefix("--").partition("=")[::2] for word in words)
        if script == "launch/train.py":
            trained.append(given["config"].partition(":")[2])
            needed = recipe(trained[-1]).init_from.split(",")
            assert {path.partition(":")[0] for path in needed} <= made
        made |= {given[name] for name in ("output", "workdir", "export_hub") if name in given}
    assert trained == [f"small{stage}" for stage in STAGES]
    datasets = {source.path for stage in trained for source in recipe(stage).data.sources}
    assert datasets <= made
