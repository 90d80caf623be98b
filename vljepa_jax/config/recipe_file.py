"""Recipe files, and what they import of one another."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import ml_collections

_ROOT = Path(__file__).resolve().parents[2]  # where configs/ lies beside this package


def load_recipe(path: str | os.PathLike[str], *variant: str) -> ml_collections.ConfigDict:
    """Runs the recipe file and returns its ``get_config(*variant)``.

    Whatever the working directory, the file can import ``configs.common``: of the tree that it lies
    in or, for a copy of a recipe that was put elsewhere, of the one beside this package.
    """
    above = Path(path).resolve().parents
    root = next((p for p in above if (p / "configs" / "common.py").is_file()), _ROOT)
    sys.path.insert(0, str(root))
    try:
        return runpy.run_path(os.fspath(path))["get_config"](*variant)
    finally:  # the processes of a loader take over this path: they are to import as this one does
        sys.path.remove(str(root))
