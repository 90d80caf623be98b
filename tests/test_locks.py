"""The locks are what pyproject.toml asks for, on each Python, and name nothing of one machine."""

import pathlib
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.programs.on_pythons import SUPPORTED

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKS = sorted(path.stem for path in ROOT.glob("locks/*.in"))
SYSTEMS = {  # those that jaxlib and array_record are built for
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "mac": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
}


def lines(path):
    """The lines of a requirements file without comments."""
    stripped = (re.sub(r"(^|\s)#.*", "", line).strip() for line in path.read_text().splitlines())
    return [line for line in stripped if line]


def asked_for(name):
    """(what a lock is made of, the lock that it agrees with or None)."""
    requirements, agrees_with = [], None
    for line in lines(ROOT / f"locks/{name}.in"):
        if line.startswith("-c "):
            agrees_with = line.removeprefix("-c ").removesuffix(".txt")
        elif line.startswith("."):
            requirements.append(f"vljepa_jax{line.removeprefix('.')}")
        else:
            requirements.append(line)
    return requirements, agrees_with


def expanded(requirements):
    """Requirements, with the package's own ones in place of itself."""
    for line in requirements:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == "vljepa-jax":
            yield from expanded(PROJECT["dependencies"])
            for extra in sorted(requirement.extras):
                yield from expanded(EXTRAS[extra])
        else:
            yield requirement


def pins(name, environment):
    """Package -> the version that a lock gives it in an environment."""
    found = {}
    for line in lines(ROOT / f"locks/{name}.txt"):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in found, f"{requirement.name} is locked twice"
            (exact,) = requirement.specifier
            found[requirement.name] = exact.version
    return found


def environments():
    for python in SUPPORTED:
        for system in SYSTEMS.values():
            yield {"python_version": python, "python_full_version": f"{python}.1"} | system


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_versions_and_nothing_of_a_machine(name):
    for line in lines(ROOT / f"locks/{name}.txt"):
        requirement = Requirement(line)  # neither an option nor a hash nor a path is one
        assert requirement.url is None
        assert not requirement.extras  # pip takes a lock as constraints, which have none
        (exact,) = requirement.specifier
        assert exact.operator == "=="
        assert re.fullmatch(r"[\w.]+", exact.version)  # "+cpu" is a build of one index
    assert "://" not in (ROOT / f"locks/{name}.txt").read_text()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_all_that_is_asked_for(name):
    requirements, agrees_with = asked_for(name)
    for environment in environments():
        locked = pins(name, environment)
        for requirement in expanded(requirements):
            if requirement.marker is None or requirement.marker.evaluate(environment):
                package = canonicalize_name(requirement.name)
                assert package in locked, f"{package} is not locked: make lock"
                assert requirement.specifier.contains(locked[package], prereleases=True)
        if agrees_with:
            others = pins(agrees_with, environment)
            both = locked.keys() & others.keys()
            assert {key: locked[key] for key in both} == {key: others[key] for key in both}


def test_each_python_gets_what_it_can_run():
    """PyAV 19 and jax 0.11 are made for Python 3.12 on: the lock does not hold these back."""
    by_python = {each["python_version"]: pins("main", each) for each in environments()}
    assert by_python["3.11"]["av"] != by_python["3.12"]["av"]
    assert by_python["3.11"]["jax"] != by_python["3.12"]["jax"]


def test_every_extra_is_locked():
    asked = [Requirement(line) for name in LOCKS for line in asked_for(name)[0]]
    own = [each.extras for each in asked if each.name == "vljepa_jax"]
    own.append(extra for line in EXTRAS["test"] for extra in Requirement(line).extras)
    assert set().union(*own) == EXTRAS.keys()
