"""The program ``vljepa``: the commands of launch/, and the recipes, as a wheel has them."""

import ast
import importlib
import pkgutil
import runpy
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import vljepa_jax
from vljepa_jax import commands
from vljepa_jax.config import ConfigError, command_line, find_recipe

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


# Folders of the package that import jax.
HEAVY = ("models", "training", "inference", "evals", "studies", "finetuning", "planning", "convert")


def modules():
    found = pkgutil.iter_modules(commands.__path__)
    return {module.name for module in found} - {"__main__"}


def test_every_command_is_a_module_and_a_launch_file():
    assert set(commands.COMMANDS) == modules()
    assert set(commands.COMMANDS) == {path.stem for path in ROOT.glob("launch/*.py")}


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_launch_file_and_the_program_run_the_same_function(name, monkeypatch):
    started = []
    monkeypatch.setattr(commands, "start", started.append)
    runpy.run_path(str(ROOT / f"launch/{name}.py"), run_name="__main__")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/vljepa", name, "--x=1"])
    module, function = PROJECT["project"]["scripts"]["vljepa"].split(":")
    getattr(importlib.import_module(module), function)()
    assert started == [name, name]
    assert sys.argv == [f"vljepa {name}", "--x=1"]


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_what_answers_help_is_light(name):
    """Neither jax nor a model is imported before the flags are read."""
    tree = ast.parse((ROOT / f"vljepa_jax/commands/{name}.py").read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
    heavy = ("jax", "flax", *(f"vljepa_jax.{name}" for name in HEAVY))
    # Names and a number alone.
    allowed = {"vljepa_jax.models.parts", "vljepa_jax.inference.search"}
    assert {name for name in names if name.startswith(heavy)} - {"vljepa_jax"} <= allowed


def program(*arguments):
    command = [sys.executable, "-m", "vljepa_jax.commands", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_help_lists_the_commands(monkeypatch, capsys):
    for arguments in ([], ["--help"], ["-h"]):
        monkeypatch.setattr(sys, "argv", ["vljepa", *arguments])
        commands.main()
        told = capsys.readouterr().out
        assert all(f"\n  {name} " in told for name in commands.COMMANDS)
    monkeypatch.setattr(sys, "argv", ["vljepa", "--version"])
    commands.main()
    assert capsys.readouterr().out == f"{vljepa_jax.__version__}\n"


def test_an_unknown_command_is_told_with_the_known_ones(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vljepa", "trian"])
    with pytest.raises(SystemExit, match=r"no command 'trian' \(did you mean 'train'\?\).*search"):
        commands.main()


def test_help_of_a_command_has_its_words_and_flags():
    answer = program("train", "--help")
    assert answer.returncode == 0, answer.stderr
    assert "    vljepa train --config=configs/demo.py --workdir=runs/demo" in answer.stdout
    assert "launch/train.py" not in answer.stdout
    for flag in ("--config", "--workdir", "--attention"):
        assert f"\n  {flag}" in answer.stdout


def test_a_wrong_flag_names_the_command_that_helps():
    answer = program("search", "--indx=x")
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == "Try vljepa search --help."


# ---------------------------------------------------------------------------------------------
# Recipes
# ---------------------------------------------------------------------------------------------
def test_a_recipe_is_found_by_its_name_and_a_local_file_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "demo.py", "configs/demo.py"):
        assert Path(find_recipe(name)).samefile(ROOT / "configs/demo.py")
    assert Path(find_recipe("eval/world")).samefile(ROOT / "configs/eval/world.py")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/demo.py").write_text("")
    assert find_recipe("configs/demo.py") == "configs/demo.py"
    with pytest.raises(ConfigError, match=r"no file 'dmeo' \(did you mean 'demo'\?\)"):
        find_recipe("dmeo")


@pytest.mark.parametrize("form", [["--config=finetune:a:b"], ["--config", "finetune:a:b"]])
def test_the_flag_takes_a_recipes_name(form):
    path = find_recipe("finetune")
    argv = command_line._with_recipe(["x", *form, "--config.steps=1"])
    assert argv == ["x", *form[:-1], form[-1].replace("finetune", path), "--config.steps=1"]


# ---------------------------------------------------------------------------------------------
# The wheel
# ---------------------------------------------------------------------------------------------
def files(folder):
    found = (path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file())
    return {path for path in found if "__pycache__" not in path.parts}


@pytest.fixture
def built(tmp_path, monkeypatch):
    """The package with what setup.py adds to it, where setuptools does nothing (make test-install
    builds and installs a wheel)."""
    shutil.copytree(ROOT / "vljepa_jax", tmp_path / "vljepa_jax")
    told = {}
    stand_in = types.ModuleType("setuptools.command.build_py")
    stand_in.build_py = type("build_py", (), {"run": lambda self: None, "editable_mode": False})
    setuptools = types.ModuleType("setuptools")
    monkeypatch.setitem(sys.modules, "setuptools", setuptools)
    monkeypatch.setitem(sys.modules, "setuptools.command.build_py", stand_in)
    monkeypatch.chdir(ROOT)
    setuptools.setup = lambda **settings: told.update(settings)
    runpy.run_path("setup.py")
    command = told["cmdclass"]["build_py"]()
    command.build_lib = tmp_path
    command.run()
    return tmp_path


def test_a_wheel_has_all_files_of_the_package():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["vljepa_jax"]
    package = ROOT / "vljepa_jax"
    data = {path.relative_to(package) for each in patterns for path in package.glob(each)}
    others = {path for path in files(package) if path.suffix != ".py"}
    assert Path("py.typed") in others
    assert others <= data


def test_a_wheel_has_the_recipes_and_finds_them(built, tmp_path):
    assert files(built / "vljepa_jax/recipes/configs") == files(ROOT / "configs")
    code = (
        "import vljepa_jax.config as c; path = c.find_recipe('configs/finetune.py'); "
        "print(path, c.load_recipe(path, 'x').data.sources[0].path)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(built)},
        capture_output=True,
        text=True,
    )
    path = built / "vljepa_jax/recipes/configs/finetune.py"
    assert answer.stdout.split() == [str(path), "x"], answer.stderr


def test_the_version_is_that_of_the_project():
    assert vljepa_jax.__version__ == PROJECT["project"]["version"]
