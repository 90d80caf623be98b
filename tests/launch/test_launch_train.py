import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def launch(*arguments):
    command = [sys.executable, "launch/train.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_help_shows_an_example():
    answer = launch("--help")
    assert "python launch/train.py --config=configs/demo.py --workdir=runs/demo" in answer.stdout
    assert "--config.init_from" in answer.stdout
    assert "--workdir" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.optimizer.warmup=1"], "did you mean 'optimizer.warmup_steps'?"),
        (["--config.model.x_encoder.num_layer=1"], "did you mean 'model.x_encoder.num_layers'?"),
        (["--config.model.x_encoder.num_layers=two"], "invalid literal for int"),
        (["--config.loss.name=l3"], "loss.name"),
        (["--workdi=x"], "workdir"),
        (["stray"], "unexpected argument 'stray'"),
        (["--profile=5"], "--profile: '5' is no range of steps, such as 100-105"),
        (["--attention=fast"], "value should be one of <auto|plain|chunked|splash|cudnn>"),
    ],
)
def test_a_wrong_command_is_answered_in_a_line(tmp_path, arguments, message):
    answer = launch("--config=configs/demo.py", f"--workdir={tmp_path / 'run'}", *arguments)
    assert answer.returncode == 1
    assert message in answer.stderr
    assert answer.stderr.startswith("error: ")
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "run").exists()


def test_a_wrong_recipe_is_answered_in_a_line(tmp_path):
    assert "no file 'configs/none.py'" in launch("--config=configs/none.py", "--workdir=x").stderr
    assert "no variant 'big'" in launch("--config=configs/demo.py:big", "--workdir=x").stderr


def test_summary_needs_no_workdir():
    answer = launch("--config=configs/vljepa_1b.py:video8", "--summary")
    assert answer.returncode == 0, answer.stderr
    assert "1024 visual and 16 query tokens" in answer.stdout
    assert "workdir" in launch("--config=configs/demo.py").stderr
