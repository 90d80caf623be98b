"""Recipe files: where they lie, how one is run, and what they import of one another."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import ml_collections

from vljepa_jax.config.parsing import ConfigError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "recipes"  # where a wheel has them (setup.py)
_ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent  # where configs/ lies


def recipe_names() -> list[str]:
    """Of the recipes that come with the package: "demo", "eval/world", ..."""
    folder = _ROOT / "configs"
    files = (path.relative_to(folder) for path in sorted(folder.rglob("*.py")))
    names = (path.with_suffix("").as_posix() for path in files)
    return [name for name in names if name not in ("__init__", "common")]


def find_recipe(name: str) -> str:
    """The path of a recipe's file.

    Args:
        name: a path; or, where there is no such file, what the package calls one of its own:
            "configs/eval/world.py" or "eval/world".

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if os.path.isfile(name):
        return name
    known = name.removeprefix("configs/").removesuffix(".py")
    if known in recipe_names():
        return os.fspath(_ROOT / "configs" / f"{known}.py")
    raise ConfigError(f"there is no file '{name}'{nearest(known, recipe_names())}")


def load_recipe(path: str | os.PathLike[str], *variant: str) -> ml_collections.ConfigDict:
    """Runs the recipe file and returns its ``get_config(*variant)``.

    Whatever the working directory, the file can import ``configs.common``: of the tree that it lies
    in or, for a copy of a recipe that was put elsewhere, of the one that comes with this package.
    """
    above = Path(path).resolve().parents
    root = next((p for p in above if (p / "configs" / "common.py").is_file()), _ROOT)
    sys.path.insert(0, str(root))
    try:
        return runpy.run_path(os.fspath(path))["get_config"](*variant)
    finally:  # the processes of a loader take over this path: they are to import as this one does
        sys.path.remove(str(root))
