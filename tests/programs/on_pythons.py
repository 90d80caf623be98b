"""Runs the tests of data, models and checkpoints on each supported Python that is installed.

    python tests/programs/on_pythons.py [--pythons=3.11,3.12,3.13] [--tested=3.11] [--newest]
        [--venv=.venv]

Each has an environment of its own, `.venv-3.12`, which `make` fills from the lock. What --pythons
names must be installed; without it an absent Python is only told. --tested names one on which the
whole suite has run; --newest leaves out all others but the newest that is installed, unless
--pythons names some. It needs nothing but the Python that runs it and make.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

SUPPORTED = ("3.11", "3.12", "3.13")
TESTS = ("tests/data", "tests/models", "tests/convert", "tests/training/test_checkpoint.py")
ROOT = pathlib.Path(__file__).resolve().parents[2]


def works(executable, version):
    """Whether it runs, is this version and can make environments: a pyenv shim may not run."""
    asked = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([executable, "-c", asked], capture_output=True, text=True)
    except OSError:
        return False
    return answer.returncode == 0 and answer.stdout.strip() == version


def find(version):
    """The first interpreter of this version that works, or None: on PATH, then pyenv's own."""
    name = f"python{version}"
    on_path = (shutil.which(name, path=folder) for folder in os.get_exec_path())
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    kept = sorted(pyenv.glob(f"versions/{version}.*/bin/{name}"))
    candidates = [sys.executable, *filter(None, on_path), *map(str, kept)]
    return next((each for each in candidates if works(each, version)), None)


def run(interpreter, venv, compiled):
    """Installs and tests. Returns (whether all passed, what the table says of it).

    Pythons with the same jaxlib read in `compiled` what another has compiled, half of their time.
    """
    report = ROOT / venv / "tests.xml"
    report.unlink(missing_ok=True)
    options = f"{os.environ.get('PYTEST_ADDOPTS', '')} --junitxml={venv}/{report.name}"
    made = subprocess.run(
        ["make", "test", f"PYTHON={interpreter}", f"VENV={venv}", f"TESTS={' '.join(TESTS)}"],
        cwd=ROOT,
        env=os.environ | {"PYTEST_ADDOPTS": options, "JAX_COMPILATION_CACHE_DIR": compiled},
    )
    if not report.exists():
        return False, "failed before its tests ran"
    suite = xml.etree.ElementTree.parse(report).find("testsuite")
    count = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    passed = count["tests"] - failed - count["skipped"]
    # Pytest's status tells of failures, and also where no test was found or a worker died.
    told = f"{passed} passed, {failed} failed, {count['skipped']} skipped"
    return made.returncode == 0 and passed > 0, told


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--pythons", default="", help="these must be installed; default: any are")
    parser.add_argument("--tested", default="", help="the whole suite has run on this one")
    parser.add_argument("--newest", action="store_true", help="no others but the newest")
    parser.add_argument("--venv", default=".venv", help="environments are VENV-3.12 and so on")
    given = parser.parse_args(arguments)
    asked = [each for each in given.pythons.split(",") if each] or list(SUPPORTED)
    for version in [*asked, *filter(None, [given.tested])]:
        if version not in SUPPORTED:
            parser.error(f"Python {version} is not one of {', '.join(SUPPORTED)}")

    if given.newest and not given.pythons:
        newest = max(filter(find, asked), key=SUPPORTED.index, default=None)
        asked = [each for each in asked if each in (newest, given.tested)]
    rows, outcomes = [], []
    with tempfile.TemporaryDirectory(prefix="vljepa_jax_compiled_") as compiled:
        for version in asked:
            if version == given.tested:
                passed, told = True, "the whole suite has run"
            elif interpreter := find(version):
                passed, told = run(interpreter, f"{given.venv}-{version}", compiled)
            else:
                passed, told = (False if given.pythons else None), "not installed"
            outcomes.append(passed)
            rows.append(f"  {version}  {told}")
    print("\n".join(["Data, model and checkpoint tests by Python:", *rows]), flush=True)
    return 0 if any(outcomes) and False not in outcomes else 1


if __name__ == "__main__":
    sys.exit(main())
