"""A share of ``make chaos``: the commands that start soonest."""

import subprocess
import sys

import pytest

from tests.helpers.subprocesses import PROGRAMS


@pytest.mark.parametrize(
    ("kinds", "only"),
    [("kill,two_owners,full_disk", "prepare"), ("source_comes_and_goes", "stream")],
)
def test_what_is_disturbed_reaches_the_promised_state(kinds, only):
    command = [sys.executable, PROGRAMS / "chaos.py", "--kills=2", f"--kinds={kinds}"]
    done = subprocess.run([*command, f"--only={only}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "held" in done.stdout
