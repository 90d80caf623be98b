"""A small share of ``make fuzz``, always the same cases, in this process."""

import subprocess
import sys

import pytest

from tests.fuzz.targets import TARGETS
from tests.programs.fuzz import Case, make_cases, prepare, run_case

SHARES = {"media": 120, "manifests": 80, "datasets": 25, "indices": 25, "tokenizers": 20}
SHARES |= {"runs": 12, "weights": 20}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    prepare(TARGETS, folder)
    return folder


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(seeds, name):
    cases = [Case(name, number, 0) for number in range(SHARES[name])]
    outcomes = [run_case(case, seeds) for case in cases]
    assert [outcome for outcome in outcomes if outcome.fault] == []
    refused = sum(outcome.refused for outcome in outcomes)
    assert refused > 0
    assert refused < len(outcomes) or name in ("tokenizers", "weights")  # any damage tells there


def test_cases_are_shared_among_the_targets_of_a_group():
    cases = make_cases({"media": 3, "others": 7}, TARGETS, seed=4, first=10)
    assert [case for case in cases if case.target == "media"] == [
        Case("media", number, 4) for number in (10, 11, 12)
    ]
    assert len(cases) == 10
    assert {case.target for case in cases} == TARGETS.keys() - {"manifests"}


def test_what_ends_or_fills_its_process_is_found(tmp_path, monkeypatch):
    """The cases beside it count all the same."""
    plugin = tmp_path / "bad_target.py"
    plugin.write_text(
        "import os\n"
        "from tests.fuzz import targets\n"
        "def read(seeds, scratch, rng):\n"
        "    draw = rng.random()\n"
        "    if draw < 0.02: os.abort()\n"
        "    if draw < 0.05: bytearray(3 << 30)\n"
        "    if draw < 0.5: raise targets.ClipError('refused')\n"
        "targets.TARGETS['bad'] = targets.Target('others', lambda folder: None, read)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:.")
    program = (
        "import bad_target\n"
        "from pathlib import Path\n"
        "from tests.programs import fuzz\n"
        "if __name__ == '__main__':\n"
        f"    seeds = Path({str(tmp_path)!r})\n"
        "    cases = [fuzz.Case('bad', number, 0) for number in range(100)]\n"
        "    found = list(fuzz.run_cases(cases, seeds, 2))\n"
        "    assert sorted(o.case for o in found) == cases, len(found)\n"
        "    ends = [o for o in found if 'ends its process' in o.fault]\n"
        "    fills = [o for o in found if 'MemoryError' in o.fault]\n"
        "    print(len(ends), len(fills), sum(o.refused for o in found))\n"
    )
    (tmp_path / "main.py").write_text(program)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ends, fills, refused = map(int, done.stdout.split())
    assert ends >= 1
    assert fills >= 1
    assert 30 < refused < 60
