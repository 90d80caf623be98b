"""The open model's recipes against the page that walks through them, and the datasets they name."""

import dataclasses
import math
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
from vljepa_jax.training.flops import model_flops
from vljepa_jax.training.optimizer import make_optimizer

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs" / "vljepa_open.py"
STAGES = ("_captions", "", "_y_decoder", "_y_decoder_predicted")


def recipe(variant):
    return parse(TrainConfig, load_recipe(RECIPE, variant))


@pytest.mark.parametrize(
    "variant", [*(size + stage for size in ("small", "base") for stage in STAGES), "large"]
)
def test_every_parameter_has_its_rules_and_every_dataset_its_adapter(variant):
    config = recipe(variant)
    params, extra = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    make_optimizer(config.optimizer, config.steps, params)
    mesh = AbstractMesh((1, 1, 1), AXES)
    state_shardings({"params": params, "extra": extra}, params, config.sharding.rules, mesh)
    for source in config.data.sources:
        adapter = registry.load(source.path.removeprefix("datasets/"))
        assert source.split in [split.name for split in adapter.splits]
        assert source.tasks.keys() == {adapter.task}


@pytest.mark.parametrize(
    ("size", "llama", "half"), [("small", "135m", 15), ("base", "360m", 16), ("large", "1.7b", 12)]
)
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


def test_the_step_of_the_largest_asks_for_what_its_sizes_say():
    """Traced, not compiled. 6 N a token trained, 2 N frozen, 4 t^2 d a layer for attention, three
    times that where it is trained, to 2 %: the rest are projections and heads."""
    config = recipe("large")
    rows, text = config.batch_size, config.data.text
    x, p, y = (getattr(config.model, part) for part in ("x_encoder", "predictor", "y_encoder"))
    visual = math.prod(config.token_grid)
    read = visual + text.query_length
    gated = y.hidden_size * (2 * y.num_heads + 2 * y.num_kv_heads) * y.head_size
    asked = (
        2 * visual * x.num_layers * (4 * x.hidden_size**2 + 2 * x.hidden_size * x.mlp_size)
        + 4 * visual**2 * x.hidden_size * x.num_layers
        + 6 * read * p.num_layers * (4 * p.hidden_size**2 + 3 * p.hidden_size * p.mlp_size)
        + 12 * read**2 * p.hidden_size * p.num_layers
        + 6 * text.target_length * y.num_layers * (gated + 3 * y.hidden_size * y.mlp_size)
        + 12 * text.target_length**2 * y.num_heads * y.head_size * y.num_layers
    )
    assert model_flops(config) == pytest.approx(rows * asked, rel=0.02)


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
