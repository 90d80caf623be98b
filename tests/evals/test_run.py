"""Reports of a run with random parameters, on a small world."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests.helpers.evaluated import evaluate_run, load_for, sweep_run
from tests.helpers.random_run import random_params, save_run
from tests.helpers.tiny import tiny_train_config, tiny_world_config, tiny_y_decoder_config
from vljepa_jax.config import ConfigError, EvalConfig, load_recipe, parse
from vljepa_jax.evals import page
from vljepa_jax.evals.benchmarks import select_benchmarks
from vljepa_jax.evals.caption_gap import caption_gap
from vljepa_jax.evals.run import sweep_table
from vljepa_jax.objectives import make_objective
from vljepa_jax.run_dir import save_params

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs" / "eval" / "world.py"
CONTRACT = {
    "world/motion_top1",
    "world/object_top1",
    "world/t2v_r1",
    "world/t2v_r5",
    "world/vqa_what_top1",
    "world/vqa_count_top1",
    "world/vqa_presence_top1",
    "world/state_match_top1",
    "world/triplets",
    "world/caption_cider",
    "world/caption_cider_nearest_neighbour",
}


def recipe() -> EvalConfig:
    return parse(EvalConfig, load_recipe(RECIPE))


@pytest.fixture(scope="module")
def config():
    world = dataclasses.replace(
        tiny_world_config(), train_clips=4, test_clips=32, compositional_clips=32
    )
    return dataclasses.replace(recipe(), world=world)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "demo"
    train = tiny_train_config()
    params = random_params(train)
    save_run(directory, train, params)
    decoder = tiny_y_decoder_config()
    fresh, _ = make_objective(decoder).init(jax.random.key(0))
    own = {name: params[name] for name in ("y_encoder", "y_head")}
    save_params(directory / "y_decoder", decoder, fresh | jax.tree.map(jax.numpy.asarray, own))
    return directory


@pytest.fixture(scope="module")
def whole(run_dir, config):
    evaluate_run(run_dir, config, config.benchmarks, run_dir)
    return json.loads((run_dir / "report.json").read_text())


def test_the_report_keeps_its_contract(whole):
    assert whole.keys() >= {"metrics", "train", "config", "environment"}
    assert whole["train"].keys() == {"steps", "examples_per_second", "wall_seconds", "final_loss"}
    names = whole["metrics"].keys()
    assert names >= CONTRACT
    assert names >= {f"{name}_compositional" for name in CONTRACT}
    assert "world/t2v_held_out_phrasing_r1" in names
    for metric in whole["metrics"].values():
        low, high = metric["interval"]
        largest = {"share": 1, "cider": 1000}[metric["unit"]]
        assert 0 <= low <= metric["value"] <= high <= largest
        assert 0 < metric["chance"] < largest
        assert metric["n"] > 0
        assert metric["unreadable"] == 0
        assert metric["frames"] == 4  # 0 in the recipe: as trained


def test_the_page_is_complete_and_self_contained(whole, run_dir):
    page = (run_dir / "report.html").read_text()
    for reference in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert reference.startswith(("data:image/", "#"))
    assert "url(http" not in page
    assert "<link" not in page
    for name in whole["metrics"]:
        assert name in page.replace("<wbr>", "")
    for title in ("Results", "Training", "Examples", "How it was made"):
        assert f"<h2>{title}</h2>" in page
    assert "<svg" in page
    assert page.count("data:image/webp") > 50
    assert {"✓ correct", "✗ wrong"} <= set(re.findall(r"[✓✗] (?:correct|wrong)", page))


def test_metrics_of_other_benchmarks_stay_until_the_run_changes(whole, run_dir, config):
    triplets = select_benchmarks(config.benchmarks, ["world/triplets"])
    evaluate_run(run_dir, config, triplets, run_dir)
    again = json.loads((run_dir / "report.json").read_text())
    assert again["metrics"] == whole["metrics"]
    train = run_dir / "train.json"
    before = train.read_text()
    train.write_text(before.replace('"steps": 3', '"steps": 4'))
    try:
        evaluate_run(run_dir, config, triplets, run_dir)
    finally:
        train.write_text(before)
    assert json.loads((run_dir / "report.json").read_text())["metrics"].keys() == {"world/triplets"}


def test_a_sweep_tabulates_one_column_a_setting(run_dir, config, tmp_path):
    chosen = select_benchmarks(config.benchmarks, ["world/state_match"])
    settings = [
        ((str(frames),), dataclasses.replace(config, frames=frames, benchmarks=chosen))
        for frames in (2, 4)
    ]
    sweep_run(run_dir, ["frames"], settings, tmp_path)
    made = json.loads((tmp_path / "sweep_frames" / "report.json").read_text())
    assert made["sweep"]["fields"] == ["frames"]
    assert [run["values"] for run in made["sweep"]["runs"]] == [["2"], ["4"]]
    frames = [run["metrics"]["world/state_match_top1"]["frames"] for run in made["sweep"]["runs"]]
    assert frames == [2, 4]
    table = sweep_table(made["sweep"])
    assert [column.header for column in table.columns] == ["metric", "frames=2", "frames=4"]
    assert [*table.columns[0].cells] == ["world/state_match_top1"]
    page = (tmp_path / "sweep_frames" / "report.html").read_text()
    for text in ("<h2>Sweep of frames</h2>", "frames=2", "frames=4"):
        assert text in page.replace("<wbr>", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.framez=4"], "did you mean 'frames'"),
        (["--sweep.framez=4"], "did you mean 'frames'"),
        (["--sweep.frames"], "write --sweep.frames=v1,v2"),
        (["--benchmarks=world/motoin"], "did you mean 'world/motion'"),
        ([], "'nowhere' holds no model that can be loaded; looked for:\n  an exported model"),
    ],
)
def test_a_wrong_command_is_one_clear_error(arguments, message):
    command = [sys.executable, "launch/eval.py", f"--config={RECIPE}", "--checkpoint=nowhere"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_gap_is_measured_on_the_captions_of_the_bank(run_dir, config):
    model = load_for(run_dir, config)
    gap = caption_gap(model, config, 3)
    assert gap.n == 3
    assert -1 <= gap.cosine <= 1
    assert gap.noisy_cosine[0] == pytest.approx(1, abs=1e-5)
    alone = dataclasses.replace(config, benchmarks=())
    with pytest.raises(ConfigError, match="none has a bank of captions"):
        caption_gap(model, alone, 3)


def test_percent_shows_sensible_digits():
    assert [page.percent(x) for x in (0, 0.0372, 0.421, 0.9996, 1)] == [
        *("0", "3.7", "42.1", "100.0", "100")
    ]
