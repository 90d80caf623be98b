"""A metric that is not defined is null, with the reason, and never 0."""

import io
import json
import types

import numpy as np
import pytest

from tests.evals.test_evaluate import benchmark, image, record
from tests.helpers.colour_model import ColourModel
from tests.helpers.tiny import tiny_world_config
from tests.inference.test_embedder import STUDY
from vljepa_jax.config import CaptionConfig, EvalConfig
from vljepa_jax.data.records import Label
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.evals import page
from vljepa_jax.evals.metrics import mean_score
from vljepa_jax.evals.run import sweep_table, write_evaluation
from vljepa_jax.evals.spread import write_spread
from vljepa_jax.evals.tables import Cell, _average, write_tables
from vljepa_jax.studies.bootstrap import ExampleScores
from vljepa_jax.studies.pictures import draw_comparison, draw_rows
from vljepa_jax.studies.results import summarise
from vljepa_jax.studies.runs import StepResult
from vljepa_jax.studies.study import _table
from vljepa_jax.terminal import PlainConsole

REASON = "CIDEr weighs words by how few of the clips have them: of one clip it has no value"


def test_cider_of_one_clip():
    metric = mean_score(np.array([0.0]), 0.0, "cider")
    assert (metric.value, metric.chance, metric.interval) == (None, None, None)
    assert (metric.n, metric.undefined) == (1, REASON)
    defined = mean_score(np.array([0.0, 100.0]), 0.0, "cider")
    assert (defined.value, defined.undefined) == (50.0, "")


@pytest.fixture
def evaluated(tmp_path, capsys):
    clips = {name: [record(name, image(name), name)] for name in ("red", "blue")}
    write_dataset(
        tmp_path / "one",
        {"test": clips["red"], "train": clips["red"] + clips["blue"]},
        name="one",
        description="",
        labels={"colours": [Label(name, (name,)) for name in ("red", "green", "blue")]},
    )
    path, captions = str(tmp_path / "one"), CaptionConfig(bank_split="train")
    one = benchmark(path, "one", captions, task="caption")
    both = benchmark(path, "both", captions, "train", task="caption")
    config = EvalConfig(0, 2, tiny_world_config(), 0, (one, both), STUDY)
    for _ in range(2):  # the second time from what is written
        write_evaluation(ColourModel(), config, config.benchmarks, tmp_path / "out", None)
    return tmp_path / "out", capsys.readouterr().out


def test_report_page_and_table(evaluated):
    directory, printed = evaluated
    metrics = json.loads((directory / "report.json").read_text())["metrics"]
    (name,) = (name for name, metric in metrics.items() if metric["value"] is None)
    assert metrics[name]["undefined"] == REASON
    assert metrics[name]["interval"] is None
    (other,) = metrics.keys() - {name}
    assert metrics[other]["value"] > 0
    assert "undefined" not in metrics[other]
    assert not page.above_chance(metrics[name])
    assert f"{name} has no value: CIDEr weighs words" in " ".join(printed.split())
    html = (directory / "report.html").read_text()
    assert f"{REASON}." in html
    assert html.count("nearest –") == 1  # the card of its one example
    (line,) = (directory / "results/one/predictions.jsonl").read_text().splitlines()
    assert json.loads(line)["values"] == {"_cider_nearest_neighbour": None}
    sweep = {"fields": ["frames"], "runs": [{"values": ["2"], "metrics": metrics}]}
    (cells,) = (column.cells for column in sweep_table(sweep).columns[1:])
    assert "–" in list(cells)


def test_tables_and_comparisons(evaluated, tmp_path):
    directory, _ = evaluated
    tables = write_tables({"a": directory, "b": directory}, tmp_path / "tables", [("a", "b")])
    others, differences = tables
    assert [cell.text for cell in differences.rows[1]][1:] == ["–", "–", "–", "–", "1"]
    assert others.notes == differences.notes == [f"{REASON}."]
    assert "– (–) (1)" in (tmp_path / "tables/tables.md").read_text()
    assert _average([{"value": None, "unit": "cider"}]) == Cell(
        "–", "No average: 0 of 1 were measured."
    )


def test_studies(tmp_path):
    """One variant of two seeds, whose second column alone has a value."""
    of = {
        "caption_cider": ExampleScores("test", np.array([0]), np.array([None], float)),
        "vqa_top1": ExampleScores("test", np.array([0, 1]), np.array([1.0, 0.0])),
    }
    result = StepResult(4, 32, {"caption_cider": None, "vqa_top1": 0.5}, of)
    variant = types.SimpleNamespace(name="a", label="A", paper={})
    columns = {"cider": ("caption_cider",), "vqa": ("vqa_top1",)}
    section = types.SimpleNamespace(title="T", variants=[variant], columns=columns)
    summary = summarise(section, {"a": {0: [result], 1: [result]}})
    json.dumps(summary, allow_nan=False)
    made = summary["variants"]["a"]
    assert made["columns"]["vqa"]["value"] == 0.5
    assert made["metrics"] == [{"caption_cider": None, "vqa_top1": 0.5}]
    cider = made["columns"]["cider"]
    assert (cider["value"], cider["interval"], cider["reason"]) == (None, [None, None], REASON)
    assert (cider["curve"], cider["per_seed"]) == ([None], [None, None])
    cells = [list(column.cells)[0] for column in _table(summary).columns]
    assert cells[1] == "– (– to –)"
    draw_rows([summary], tmp_path / "rows.png")
    draw_comparison(summary, tmp_path / "picture.png")


def test_spread(evaluated, tmp_path):
    directory, _ = evaluated
    content = json.loads((directory / "report.json").read_text())
    for seed in (1, 2):
        content["config"]["train"] = {"seed": seed}
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / "report.json").write_text(json.dumps(content))
    file = io.StringIO()
    runs = [tmp_path / "1", tmp_path / "2"]
    write_spread(runs, tmp_path / "spread", PlainConsole(file=file, width=200))
    metrics = json.loads((tmp_path / "spread/report.json").read_text())["metrics"]
    (missing,) = (metric for metric in metrics.values() if metric["mean"] is None)
    assert (missing["values"], missing["undefined"]) == ([None, None], REASON)
    assert "–" in file.getvalue()
