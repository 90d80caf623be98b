"""The check for GPUs, as far as it runs without one: all but the device."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def check(output, *arguments):
    command = [sys.executable, "benchmarks/gpu_check.py", f"--output={output}", *arguments]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow  # minutes, with many threads
def test_every_part_runs_without_a_gpu(tmp_path):
    output = tmp_path / "gpu.json"
    answer = check(output, "--tiny", "--only=attention,losses,steps", "--minutes=60")
    assert answer.returncode == 0, answer.stderr[-3000:]
    report = json.loads(output.read_text())
    assert report["tiny"]
    attention = report["parts"]["attention"]
    assert len(attention) == 6
    for kind in attention.values():
        for way in ("cudnn", "plain"):
            assert kind[way]["ms"] > 0
            assert max(kind[way]["distance"].values()) < 0.02  # bfloat16 has 8 bits
    losses = report["parts"]["losses"]
    assert len(losses["here"]) == len(losses["cpu"]) == 10
    assert losses["here"][-1] < losses["here"][0]
    assert losses["largest_difference"] < 0.03
    image = report["parts"]["steps"]["image"]
    assert image["batch_size"] == 8
    assert 0 < image["share_of_measured_peak"] < 1
    assert image["planned_gib"] > 0


def test_what_begins_too_late_is_left_out(tmp_path):
    output = tmp_path / "gpu.json"
    answer = check(output, "--tiny", "--only=attention", "--minutes=-1")
    assert answer.returncode == 0, answer.stderr[-3000:]
    left = json.loads(output.read_text())["parts"]["attention"]
    assert left.startswith("left out:")


def test_without_a_gpu_it_says_what_to_do(tmp_path):
    answer = check(tmp_path / "gpu.json", "--only=losses")
    assert "no GPU that JAX knows" in answer.stderr
    assert not (tmp_path / "gpu.json").exists()
    assert "no speed; there are torch, attention" in check("nowhere", "--only=speed").stderr


@pytest.mark.parity
def test_torchs_part_runs_without_a_gpu(tmp_path):
    assert importlib.util.find_spec("torch") is not None
    output = tmp_path / "gpu.json"
    answer = check(output, "--tiny", "--only=torch")
    assert answer.returncode == 0, answer.stderr[-3000:]
    torch = json.loads(output.read_text())["parts"]["torch"]
    assert set(torch["cases"]) == {"vjepa2_8", "predictor", "predictor_train"}
