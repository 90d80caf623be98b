import json
import subprocess
import sys
from pathlib import Path

import pytest
import rich.console

from vljepa_jax.evals.examples import EvaluationError
from vljepa_jax.evals.spread import spread, write_spread

ROOT = Path(__file__).parents[2]


def metric(value, unit="share"):
    shared = {"chance": 0.25, "n": 10, "unit": unit, "path": "@world", "split": "test"}
    return {"value": value, "interval": [0, 1]} | shared


def test_mean_and_standard_deviation_by_hand():
    runs = {name: {"a": metric(value)} for name, value in (("x", 0.2), ("y", 0.5), ("z", 0.8))}
    found = spread(runs)["a"]
    assert found["mean"] == pytest.approx(0.5)
    assert found["standard_deviation"] == pytest.approx(0.3)  # of a sample: sqrt(0.18 / 2)
    assert (found["lowest"], found["highest"]) == (0.2, 0.8)
    assert found["values"] == [0.2, 0.5, 0.8]
    assert (found["chance"], found["n"], found["unit"]) == (0.25, 10, "share")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"x": {"a": metric(1.0)}}, "at least two"),
        ({"x": {"a": metric(1.0)}, "y": {}}, "'y' has no report.json"),
        ({"x": {"a": metric(1.0)}, "y": {"b": metric(1.0)}}, "different things: a, b"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(runs, message):
    with pytest.raises(EvaluationError, match=message):
        spread(runs)


def test_the_command(tmp_path):
    for seed, value in enumerate((0.2, 0.4)):
        (tmp_path / str(seed)).mkdir()
        report = {
            "metrics": {"a": metric(value), "b": metric(30.0 + seed, "cider")},
            "config": {"train": {"seed": seed}},
        }
        (tmp_path / str(seed) / "report.json").write_text(json.dumps(report))
    command = [
        *(sys.executable, "launch/spread.py", f"--output={tmp_path / 'all'}"),
        f"--runs={tmp_path / '0'},{tmp_path / '1'}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "30.0" in done.stdout
    written = json.loads((tmp_path / "all" / "report.json").read_text())
    assert written["metrics"]["a"]["mean"] == pytest.approx(0.3)
    assert written["seeds"] == [0, 1]
    assert (tmp_path / "all" / "spread.png").stat().st_size > 5_000
    done = subprocess.run(
        [*command[:-1], f"--runs={tmp_path},{tmp_path / '1'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "has no report.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_without_a_training_run_has_no_seed(tmp_path):
    for name, train in (("a", {"seed": 0}), ("b", None)):
        (tmp_path / name).mkdir()
        report = {"metrics": {"a": metric(0.5)}, "config": {"train": train}}
        (tmp_path / name / "report.json").write_text(json.dumps(report))
    with pytest.raises(EvaluationError, match="b' has the report of a model that no training run"):
        write_spread([tmp_path / "a", tmp_path / "b"], tmp_path / "all", rich.console.Console())
