"""A metric that is not defined is null, with the reason, and never 0."""

import io
import json

import numpy as np
import pytest

from tests.evals.test_evaluate import benchmark, image, record
from tests.helpers.colour_model import ColourModel
from tests.helpers.tiny import tiny_world_config
from tests.inference.test_embedder import STUDY
from vljepa_jax.config import CaptionConfig, EvalConfig
from vljepa_jax.data.records import Label
from vljepa_jax.data.storage import write_dataset
from vljepa_jax.evals import report
from vljepa_jax.evals.metrics import mean_score
from vljepa_jax.evals.run import sweep_table, write_evaluation
from vljepa_jax.evals.spread import write_spread
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
    assert not report.above_chance(metrics[name])
    assert f"{name} has no value: CIDEr weighs words" in " ".join(printed.split())
    assert f"{REASON}." in (directory / "report.html").read_text()
    sweep = {"fields": ["frames"], "runs": [{"values": ["2"], "metrics": metrics}]}
    (cells,) = (column.cells for column in sweep_table(sweep).columns[1:])
    assert "–" in list(cells)


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
