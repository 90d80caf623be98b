"""The committed studies: both models of the comparison see the same, and sections are complete."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny import tiny_world_config
from vljepa_jax.config import StudyConfig, TrainConfig, load_recipe, parse
from vljepa_jax.data.pipeline import TrainPipeline
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.studies.comparison import trained_parameters
from vljepa_jax.studies.study import require_same_data

CONFIGS = Path(__file__).parents[2] / "configs"
STUDIES = {
    name: parse(StudyConfig, load_recipe(CONFIGS / f"{name}.py"))
    for name in ("comparison", "ablations")
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
