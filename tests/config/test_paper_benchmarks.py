"""What configs/eval/paper.py declares, against what the datasets' adapters declare."""

import runpy
from collections import Counter
from pathlib import Path

import pytest

from vljepa_jax.config import DATA, EvalConfig, load_recipe, parse
from vljepa_jax.config.overrides import settings
from vljepa_jax.datasets import registry
from vljepa_jax.evals.benchmarks import benchmark_name, metric_name
from vljepa_jax.evals.protocols.registry import make_protocol

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs" / "eval" / "paper.py"


def declared(*variant):
    return parse(EvalConfig, load_recipe(RECIPE, *variant)).benchmarks


BENCHMARKS = declared()
NAMES = [benchmark_name(benchmark) for benchmark in BENCHMARKS]
UNSETTLED = {dataset.name for dataset in registry.UNSETTLED}


def test_every_benchmark_and_metric_has_a_name_of_its_own():
    metrics = [metric_name(b, end) for b in BENCHMARKS for end in make_protocol(b).suffixes]
    for names in (NAMES, metrics):
        assert max(Counter(names).values()) == 1
    assert Counter(benchmark.group for benchmark in BENCHMARKS).keys() == {
        *("zero_shot", "vqa", "world_modeling", "text", "captioning")
    }


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=NAMES)
def test_a_benchmark_fits_its_dataset(benchmark):
    dataset = benchmark.path.removeprefix(DATA)
    if dataset in UNSETTLED:
        return
    adapter = registry.load(dataset)
    split = {split.name: split for split in adapter.splits}[benchmark.split]
    assert benchmark.filter["task"] == adapter.task
    if split.rows is not None:
        part = len(benchmark.filter) > 1 or getattr(benchmark.protocol, "candidates", 0)
        assert (benchmark.expected < split.rows) if part else (benchmark.expected == split.rows)
    if bank := getattr(benchmark.protocol, "bank_split", ""):
        assert bank in [split.name for split in adapter.splits]


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=NAMES)
def test_every_choice_says_who_made_it(benchmark):
    for choice, source in benchmark.sources.items():
        assert source.startswith(("paper: ", "official: ", "ours: ")), choice
    wanted = {"split", "metric"}
    if benchmark.filter["task"] != "triplet":
        wanted |= {"frames", "sampling", "crop", "query"}
    if benchmark.filter["task"] in ("classification", "vqa"):
        wanted |= {"labels"}
    assert wanted <= benchmark.sources.keys()


def test_a_sweep_of_frames_reaches_all_benchmarks_and_one_of_a_benchmark_this_alone():
    recipe = load_recipe(RECIPE, "text+captioning")
    swept = settings(recipe, {"frames": ["4", "8"], "benchmarks[1].fit": ["squash"]})
    found = [(parse(EvalConfig, config), values) for values, config in swept]
    assert [config.frames for config, _ in found] == [4, 8]
    assert [b.fit for b in found[0][0].benchmarks].count("squash") == 1
    assert found[0][0].benchmarks[1].fit == "squash"


def test_parts_of_a_benchmark_are_the_whole():
    counts = {benchmark_name(benchmark): benchmark.expected for benchmark in BENCHMARKS}
    for whole in ("tallyqa", "pope", "sugarcrepe_pp", "visla"):
        parts = [count for name, count in counts.items() if name.startswith(f"{whole}_")]
        assert sum(parts) == counts[whole]
    assert counts["popev2_counterfactual"] * 2 == counts["popev2"]
    assert counts["ek100_anticipation_1s_all"] - counts["ek100_anticipation_1s"] == 372


def test_groups_are_chosen_and_queries_left_out():
    assert {benchmark.group for benchmark in declared("text+vqa")} == {"text", "vqa"}
    free = declared("zero_shot+query_free")
    assert {benchmark.query for benchmark in free} == {""}
    assert all("trained without" in benchmark.sources["query"] for benchmark in free)
    assert {benchmark.query for benchmark in declared("vqa+query_free")} == {None}  # questions
    with pytest.raises(ValueError, match="no group 'zeroshot': there are zero_shot, vqa"):
        declared("zeroshot")


def test_kinetics_has_perception_encoders_templates():
    (ensemble,) = [b for b in BENCHMARKS if benchmark_name(b) == "kinetics400_ensemble"]
    assert len(set(ensemble.templates)) == 28
    assert {
        "a photo of {}.",
        "a video of a person {}.",
        "a demonstration of a person practicing {}.",
        "a example of a person {}.",  # as it is there
    } <= set(ensemble.templates)


def test_the_page_is_what_the_config_declares():
    page = runpy.run_path(str(ROOT / "docs" / "make_benchmarks.py"))["page"]()
    written = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert written == page, "run python docs/make_benchmarks.py"
