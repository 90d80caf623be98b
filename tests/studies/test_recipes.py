"""The committed studies: both models of the comparison see the same, and sections are complete."""

import dataclasses
import itertools
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.helpers.tiny import tiny_world_config
from vljepa_jax.config import StudyConfig, TrainConfig, load_recipe, parse
from vljepa_jax.data.pipeline import TrainPipeline, array_spec
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.objectives import make_objective
from vljepa_jax.planning.summary import count_parameters
from vljepa_jax.studies.comparison import trained_parameters
from vljepa_jax.studies.study import require_same_data
from vljepa_jax.training.optimizer import make_optimizer

CONFIGS = Path(__file__).parents[2] / "configs"
STUDIES = {
    "".join(name): parse(StudyConfig, load_recipe(CONFIGS / f"{name[0]}.py", name[1][1:]))
    for name in itertools.product(("comparison", "ablations"), ("", ":paper"))
}


def small(config):
    """A recipe on the tiny world, of a few rows."""
    data = dataclasses.replace(config.data, visual_tokens="compute", num_workers=0)
    return dataclasses.replace(
        config, world=tiny_world_config(), data=data, batch_size=16, steps=3, seed=4
    )


def test_both_models_read_the_same_words_of_the_same_clips():
    """Annotation, query and wording at every index, whatever tokens they become."""
    vljepa, vlm = (small(v.train) for v in STUDIES["comparison"].sections[0].variants)
    tokenizer = Tokenizer("@world")

    def pad_free(tokens, mask):
        return [row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)]

    seen = set()
    batches = zip(TrainPipeline(vljepa).batches(0), TrainPipeline(vlm).batches(0), strict=True)
    for one, other in itertools.islice(batches, 3):
        assert one.ids == other.ids
        np.testing.assert_array_equal(one.arrays["video"], other.arrays["video"])
        of_vlm = other.arrays
        queries = pad_free(one.arrays["query_tokens"], one.arrays["query_mask"])
        asked = pad_free(of_vlm["tokens"], of_vlm["mask"] & ~of_vlm["target_mask"])
        assert queries == asked
        targets = pad_free(one.arrays["target_tokens"], one.arrays["target_mask"])
        answered = pad_free(of_vlm["tokens"], of_vlm["target_mask"])
        for target, answer in zip(targets, answered, strict=True):
            assert tokenizer.decode(target) == tokenizer.decode(answer)
            seen.add(tokenizer.decode(target))
    assert len(seen) > 20


@pytest.mark.parametrize("variant", ["vljepa", "vlm", "y_decoder"])
def test_full_size_recipes_trace(variant):
    config = parse(TrainConfig, load_recipe(CONFIGS / "comparison_1b.py", variant))
    if config.data.video is not None:
        assert config.token_grid == (16, 24, 24)  # PE-Core at 336 pixels, frame by frame
    trace(config)


@pytest.mark.parametrize("row", ["e/Qwen3-Embedding-0.6B", "e/PE-Core-bigG-14-448"])
def test_full_size_ablations_trace(row):
    sections = {section.name: section for section in STUDIES["ablations:paper"].sections}
    name, variant = row.split("/")
    trace(next(v.train for v in sections[name].variants if v.name == variant))


@pytest.mark.parametrize("study", ["comparison", "ablations"])
def test_each_rule_of_an_optimizer_decides_something(study):
    recipes = {}
    for section in STUDIES[study].sections:
        for variant in section.variants:
            config = variant.train
            recipes[config.optimizer.rules, type(config.model)] = config
    for config in recipes.values():
        params, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
        make_optimizer(config.optimizer, config.steps, params)


def trace(config):
    """A training step with its gradient, for shapes alone."""
    objective, key = make_objective(config), jax.random.key(0)
    params, extra = jax.eval_shape(objective.init, key)
    make_optimizer(config.optimizer, config.steps, params)  # its rules cover all of them
    arrays = {
        name: jax.ShapeDtypeStruct((2, *shape[1:]), dtype)
        for name, (shape, dtype) in array_spec(config).items()
    }

    def loss(params, arrays):
        representations = objective.represent(params, extra, arrays, key)
        return objective.loss(params, representations, arrays, key, None)[0]

    value, gradient = jax.eval_shape(jax.value_and_grad(loss), params, arrays)
    assert value.shape == ()
    assert jax.tree.structure(gradient) == jax.tree.structure(params)


def test_the_full_size_models_have_the_papers_sizes():
    """4.5: a predictor of 0.5B against a language model of 1B, trained on 15M samples."""
    vljepa, vlm = STUDIES["comparison:paper"].sections[0].variants
    assert trained_parameters(vljepa)["model"] == pytest.approx(0.5e9, rel=0.05)
    layers = count_parameters(vlm.train)["Layers, norm, projection"].trained
    assert layers == pytest.approx(1e9, rel=0.05)
    assert vljepa.train.steps * vljepa.train.batch_size == pytest.approx(15e6, rel=0.05)


@pytest.mark.parametrize("study", STUDIES)
def test_sections_compare_the_same_data(study):
    for section in STUDIES[study].sections:
        require_same_data(section)
        named = {metric for metrics in section.columns.values() for metric in metrics}
        starts = {b.name for b in section.benchmarks}
        assert all(any(metric.startswith(start) for start in starts) for metric in named)


def test_the_predictor_is_half_of_the_language_model():
    """Paper 4.5: 0.5B against 1B. Here the layers are half, and the VLM's words are trained."""
    vljepa, vlm = STUDIES["comparison"].sections[0].variants
    assert vljepa.train.model.predictor.num_layers * 2 == vlm.train.model.predictor.num_layers
    ratio = trained_parameters(vljepa)["model"] / trained_parameters(vlm)["model"]
    assert 0.4 < ratio < 0.55


def test_the_full_size_vlm_is_the_full_size_vljepa_but_for_model_and_loss():
    vlm = parse(TrainConfig, load_recipe(CONFIGS / "vlm_1b.py"))
    vljepa = parse(TrainConfig, load_recipe(CONFIGS / "vljepa_1b.py", "sft"))
    assert vlm.model.predictor.num_layers == 16
    assert vlm.model.predictor.causal
    same = ("seed", "steps", "batch_size", "world", "checkpoint", "sharding")
    assert [getattr(vlm, name) for name in same] == [getattr(vljepa, name) for name in same]
    text = vljepa.data.text
    assert vlm.data.text.tokenizer == text.query_tokenizer
    assert (vlm.data.text.query_length, vlm.data.text.target_length) == (512, 512)
    assert vlm.data.sources == vljepa.data.sources
    assert vlm.data.video == vljepa.data.video
