import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def launch(*arguments):
    command = [sys.executable, "launch/convert.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--checkpoint and --export alone"),
        (["--checkpoint=runs/x"], "--checkpoint and --export alone"),
        (["--export=out", "--checkpoint=x", "--output=y"], "--checkpoint and --export alone"),
        (["--config=configs/demo.py", "--output=x"], "at least one of --x_encoder"),
        (["--export=out", "--checkpoint=none"], "'none' is not a run directory"),
    ],
)
def test_a_wrong_command_is_answered_in_a_line(arguments, message):
    answer = launch(*arguments)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr


def test_faults_are_listed(tmp_path):
    answer = launch(
        "--config=configs/vljepa_1b.py",
        f"--x_encoder={tmp_path / 'x'}",
        f"--predictor={tmp_path / 'p'}",
        f"--output={tmp_path / 'out'}",
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: checkpoint does not fit:\n")
    for part in ("x", "p"):
        assert f"{tmp_path / part}: holds neither model.safetensors nor" in answer.stderr
        assert f"{tmp_path / part / 'config.json'}: is missing" in answer.stderr
    assert not (tmp_path / "out").exists()
