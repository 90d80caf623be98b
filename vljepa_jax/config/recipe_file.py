"""Recipe files, and what they import of one another."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import ml_collections

_ROOT = Path(__file__).resolve().parents[2]  # where configs/ lies beside this package


def load_recipe(path: str | os.PathLike[str], *variant: str) -> ml_collections.ConfigDict:
    """Runs the recipe file and returns its ``get_config(*variant)``."""
    with recipe_imports(path):
        return runpy.run_path(os.fspath(path))["get_config"](*variant)


@contextlib.contextmanager
def recipe_imports(path: str | os.PathLike[str]) -> Iterator[None]:
    """Lets the recipe file import ``configs.common``, whatever the working directory.

    ``configs`` is the tree that the file lies in; for a copy of a recipe that was put elsewhere, it
    is the one beside this package.
    """
    above = Path(path).resolve().parents
    root = next((p for p in above if (p / "configs" / "common.py").is_file()), _ROOT)
    sys.path.insert(0, str(root))
    try:
        yield
    finally:  # the processes of a loader take over this path: they are to import as this one does
        sys.path.remove(str(root))
