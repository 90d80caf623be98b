"""docs/guarantees.md names, for each promise, tests that there are."""

import re
from pathlib import Path

import pytest

from tests.programs.chaos import KINDS

ROOT = Path(__file__).parents[1]
ROWS = [
    tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
    for line in (ROOT / "docs/guarantees.md").read_text().splitlines()
    if re.match(r"\| (?!promise|---)", line)
]
CHAOS = {f"{kind} {name}" for kind, names, _ in KINDS for name in names}
CHAOS |= {kind for kind, *_ in KINDS}


def test_there_are_promises():
    assert len(ROWS) > 20
    assert all(len(row) == 2 for row in ROWS)


@pytest.mark.parametrize(("promise", "held_by"), ROWS)
def test_what_holds_a_promise_is_there(promise, held_by):
    named = re.findall(r"`([^`]+)`", held_by)
    assert named, promise
    for name in named:
        if name.startswith("tests/"):
            assert "\ndef test_" in (ROOT / name).read_text(), name
        else:
            assert name in CHAOS, name
