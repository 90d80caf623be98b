"""A whole study of tiny models: what it leaves, how it goes on, and what it refuses."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.helpers.tiny import (
    tiny_train_config,
    tiny_vlm_config,
    tiny_world_config,
    tiny_y_decoder_config,
)
from vljepa_jax.config import (
    BenchmarkConfig,
    CaptionConfig,
    ChooseConfig,
    ConfigError,
    Effort,
    LatencyConfig,
    StudyConfig,
    StudySection,
    Variant,
)
from vljepa_jax.run_dir import CheckpointError
from vljepa_jax.studies import runs
from vljepa_jax.studies.pictures import draw_rows
from vljepa_jax.studies.study import require_same_data, run_study, select_sections
from vljepa_jax.training import train_loop


def variant(name, train, **fields):
    fields = {"y_decoder": None, "paper": {}} | fields
    return Variant(name, name, None, train, {}, False, **fields)


def vljepa(**overrides):
    return dataclasses.replace(tiny_train_config(), **overrides)


def frozen_targets():
    """A VL-JEPA whose Y-Encoder does not move, with a Y-Decoder for it."""
    config = tiny_train_config()
    rules = tuple(
        dataclasses.replace(rule, pattern=r"^x_encoder/|^y_encoder/|^y_head/")
        if rule.frozen
        else rule
        for rule in config.optimizer.rules
    )
    optimizer = dataclasses.replace(config.optimizer, rules=rules)
    return dataclasses.replace(config, optimizer=optimizer)


@pytest.fixture(scope="module")
def study():
    captions = BenchmarkConfig(
        name="world/caption",
        suffix="",
        protocol=CaptionConfig(name="caption", bank_split="train"),
        path="@world",
        split="test",
        filter={"task": "caption", "kind": "caption", "phrasing": "seen"},
        query=None,
        limit=0,
    )
    motion = dataclasses.replace(
        captions,
        name="world/motion",
        protocol=ChooseConfig(name="choose", k=(5,)),
        filter={"task": "classification", "kind": "motion"},
    )
    section = StudySection(
        name="primary",
        title="Tiny",
        pretrained={},
        variants=(
            variant("vljepa", frozen_targets(), y_decoder=tiny_y_decoder_config(steps=1)),
            variant("vlm", tiny_vlm_config()),
        ),
        world=tiny_world_config(),
        benchmarks=(captions, motion),
        columns={"cider": ("world/caption_cider",), "top5": ("world/motion_top5",)},
        same_data=True,
        full=Effort(seeds=(0, 1), steps=4, evaluated=(2, 4), limit=6),
        quick=Effort(seeds=(0,), steps=1, evaluated=(1,), limit=2),
    )
    return StudyConfig("comparison", (section,), "", 4, 0, LatencyConfig(2, 1))


@pytest.fixture(scope="module")
def done(study, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    return workdir, run_study(study, workdir, (), quick=False)


def test_report_has_the_figures_with_intervals(done):
    workdir, report = done
    assert json.loads((workdir / "report.json").read_text()) == report
    found = report["sections"]["primary"]
    assert found["comparison"].keys() == {
        "cider_ratio_final",
        "samples_to_equal_cider_ratio",
        "top5_difference_final",
        "predictor_to_llm_ratio",
        "all_trainable_ratio",
        "latency_ratio_without_text",
    }
    top5 = {name: of["columns"]["top5"]["value"] for name, of in found["variants"].items()}
    difference = found["comparison"]["top5_difference_final"]
    assert difference["value"] == pytest.approx(top5["vljepa"] - top5["vlm"])
    assert difference["interval"][0] <= difference["value"] <= difference["interval"][1]
    assert found["variants"]["vlm"]["samples"] == [16, 32]
    assert (workdir / "primary.png").stat().st_size > 10_000


def test_values_are_means_of_the_kept_scores(done):
    workdir, report = done
    column = report["sections"]["primary"]["variants"]["vljepa"]["columns"]["cider"]
    saved = [
        json.loads((workdir / f"primary/vljepa/seed_{seed}/results/4.json").read_text())
        for seed in (0, 1)
    ]
    means = [np.mean(run["examples"]["world/caption_cider"]["scores"]) for run in saved]
    assert means == pytest.approx([run["metrics"]["world/caption_cider"] for run in saved])
    assert column["value"] == pytest.approx(np.mean(means))
    assert column["per_seed"] == pytest.approx(means)


def test_a_study_goes_on_where_it_was(done, study, monkeypatch, tmp_path):
    """With everything there nothing is trained or evaluated; one result is made anew alone."""
    workdir, report = done
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    evaluated = []

    def no_training(config, folder, *_):
        raise AssertionError(f"{folder} is trained again")

    real = runs.evaluate
    monkeypatch.setattr(
        runs,
        "evaluate",
        lambda model, *more: evaluated.append(model.card["step"]) or real(model, *more),
    )
    with monkeypatch.context() as patched:
        patched.setattr(train_loop, "train", no_training)
        again = run_study(study, copy, (), quick=False)
    assert evaluated == []
    for name in ("cider_ratio_final", "top5_difference_final"):
        comparison = [r["sections"]["primary"]["comparison"][name] for r in (again, report)]
        assert comparison[0] == comparison[1]
    (copy / "primary/vljepa/seed_1/results/2.json").unlink()
    run_study(study, copy, (), quick=False)
    assert evaluated == [2]


def test_a_missing_checkpoint_is_named(done, study, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(done[0], copy)
    folder = copy / "primary/vljepa/seed_1"
    (folder / "results/2.json").unlink()
    shutil.rmtree(folder / "checkpoints/2")
    with pytest.raises(CheckpointError, match=r"seed_1.*2"):
        run_study(study, copy, (), quick=False)


def test_results_of_other_settings_are_refused(done, study):
    (section,) = study.sections
    section = dataclasses.replace(section, full=dataclasses.replace(section.full, limit=5))
    with pytest.raises(ConfigError, match=r"limit: 6 -> 5"):
        run_study(dataclasses.replace(study, sections=(section,)), done[0], (), quick=False)


def test_results_of_an_earlier_version_are_kept(done, study, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(done[0], copy)
    for path in copy.glob("primary/*/seed_*/settings.json"):
        settings = json.loads(path.read_text())
        for source in settings["train"]["data"]["sources"]:
            assert source.pop("max_epochs") == 0  # fields that have been added since
        for benchmark in settings["benchmarks"]:
            assert benchmark.pop("fit") == "model"
        settings["train"]["sharding"]["rules"][0]["pattern"] += "|other"  # changes no result
        path.write_text(json.dumps(settings))
    monkeypatch.setattr(runs, "evaluate", lambda *_: pytest.fail("evaluated again"))
    run_study(study, copy, (), quick=False)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"batch_size": 4}, "batch_size: 8 -> 4"),
        ({"micro_batch_size": 4}, None),
        (
            {"optimizer": dataclasses.replace(tiny_vlm_config().optimizer, schedule="cosine")},
            "optimizer.schedule",
        ),
        (
            {"optimizer": dataclasses.replace(tiny_vlm_config().optimizer, learning_rate=1.0)},
            None,
        ),
        ({"world": dataclasses.replace(tiny_world_config(), train_clips=20)}, "world.train_clips"),
    ],
)
def test_recipes_that_differ_in_data_are_refused(study, tmp_path, changed, named):
    (section,) = study.sections
    one, other = section.variants
    other = dataclasses.replace(other, train=dataclasses.replace(other.train, **changed))
    section = dataclasses.replace(section, variants=(one, other))
    study = dataclasses.replace(study, sections=(section,))
    if named is None:
        require_same_data(section)
        return
    with pytest.raises(ConfigError, match=named):
        run_study(study, tmp_path, (), quick=True)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_section_is_named(study, tmp_path):
    with pytest.raises(ConfigError, match="no section 'primry'.*'primary'"):
        run_study(study, tmp_path, ("primry",), quick=True)


def test_quick_is_of_the_first_section_unless_others_are_named(study):
    (section,) = study.sections
    other = dataclasses.replace(section, name="other")
    study = dataclasses.replace(study, sections=(section, other))
    assert select_sections(study, (), quick=True) == (section,)
    assert select_sections(study, ("other",), quick=True) == (other,)
    assert select_sections(study, (), quick=False) == (section, other)


def test_sections_of_a_table_share_one_picture(tmp_path):
    def section(*columns):
        figure = {"value": 0.5, "interval": [0.4, None], "paper": None}
        variants = {n: {"label": n, "columns": dict.fromkeys(columns, figure)} for n in "ab"}
        return {"title": "Losses", "columns": dict.fromkeys(columns), "variants": variants}

    draw_rows([section("vqa", "top5"), section("top5")], tmp_path / "two.png")
    draw_rows([section("vqa")], tmp_path / "one.png")
    sizes = {}
    for name in ("one", "two"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            sizes[name] = picture.size
    wider, higher = np.array(sizes["two"]) / sizes["one"]
    assert wider > 1.5
    assert higher > 1.5
