"""Each benchmark runs by its path where the project is installed, whatever else is not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.subprocesses import PROGRAMS

COMMANDS = [
    path
    for path in sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))
    if "__main__" in path.read_text()
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    command = [sys.executable, "-W", "ignore", PROGRAMS / "helps.py", *COMMANDS]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    answer = subprocess.run(command, cwd=elsewhere, stdout=subprocess.PIPE, check=True)
    return json.loads(answer.stdout)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_a_benchmark_runs_by_its_path(outcomes, path):
    status, said = outcomes[str(path)]
    assert status == 0, status
    assert f"python benchmarks/{path.name}" in said
