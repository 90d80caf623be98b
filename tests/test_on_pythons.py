"""Which Pythons the tests are run on, and when that counts as a failure."""

import sys
import tomllib

import pytest
from packaging.specifiers import SpecifierSet

from tests.programs import on_pythons

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = next(each for each in on_pythons.SUPPORTED if each != RUNNING)


def executable(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose only Python is the one that runs this."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return tmp_path


def test_all_supported_pythons_are_tried():
    project = tomllib.loads((on_pythons.ROOT / "pyproject.toml").read_text())["project"]
    supported = SpecifierSet(project["requires-python"])
    assert tuple(f"3.{n}" for n in range(30) if f"3.{n}" in supported) == on_pythons.SUPPORTED


def test_a_shim_that_does_not_run_is_passed_over(machine):
    executable(machine / "bin" / f"python{OTHER}", "exit 127")
    assert on_pythons.find(OTHER) is None
    executable(machine / "bin" / f"python{RUNNING}", "exit 127")
    assert on_pythons.find(RUNNING) == sys.executable
    kept = machine / "pyenv" / "versions" / f"{OTHER}.4" / "bin" / f"python{OTHER}"
    executable(kept, "echo 3.6")
    assert on_pythons.find(OTHER) is None
    executable(kept, f"echo {OTHER}")
    assert on_pythons.find(OTHER) == str(kept)


def test_an_absent_python_fails_only_if_it_was_asked_for(machine, capsys):
    assert on_pythons.main([f"--tested={RUNNING}"]) == 0
    assert f"{RUNNING}  the whole suite has run" in capsys.readouterr().out
    assert on_pythons.main([f"--tested={RUNNING}", f"--pythons={RUNNING},{OTHER}"]) == 1
    assert f"{OTHER}  not installed" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        on_pythons.main(["--pythons=3.10"])


def test_the_newest_alone_stands_for_the_others(machine, monkeypatch, capsys):
    monkeypatch.setattr(on_pythons, "find", lambda version: version != "3.13" and version)
    monkeypatch.setattr(on_pythons, "run", lambda python, venv, compiled: (True, f"by {python}"))
    assert on_pythons.main(["--tested=3.11", "--newest"]) == 0
    told = capsys.readouterr().out
    assert "3.12  by 3.12" in told
    assert "3.11  the whole suite" in told
    assert "3.13" not in told
    assert on_pythons.main(["--pythons=3.11,3.12", "--newest"]) == 0
    assert "3.11  by 3.11" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "cases", "expected", "told"),
    [
        (0, 'tests="5" failures="0" errors="0" skipped="1"', 0, "4 passed, 0 failed, 1 skipped"),
        (2, 'tests="5" failures="1" errors="1" skipped="0"', 1, "3 passed, 2 failed, 0 skipped"),
        (2, 'tests="0" failures="0" errors="0" skipped="0"', 1, "0 passed"),
        (0, 'tests="1" failures="0" errors="0" skipped="1"', 1, "0 passed, 0 failed, 1 skipped"),
        (2, None, 1, "failed before its tests ran"),
    ],
)
def test_only_tests_that_passed_count(machine, monkeypatch, capsys, status, cases, expected, told):
    """`make` is played by a script: it leaves a report of pytest's form, and a status.

    It fails without a directory for compiled programs, which Pythons share.
    """
    monkeypatch.setattr(on_pythons, "ROOT", machine)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    venv = machine / f".venv-{RUNNING}"
    venv.mkdir()
    report = f"<testsuites><testsuite {cases}/></testsuites>"
    write = f"echo '{report}' > {venv / 'tests.xml'}\n" if cases else ""
    executable(
        machine / "bin" / "make", f'{write}test -d "$JAX_COMPILATION_CACHE_DIR" && exit {status}'
    )
    assert on_pythons.main([f"--pythons={RUNNING}"]) == expected
    assert told in capsys.readouterr().out
