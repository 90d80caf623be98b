"""Imports between the folders of the package point one way (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vljepa_jax"
# Each may import what stands before it, and itself.
ORDER = (
    *("places", "json_text", "ownership", "host", "fingerprint", "buckets", "config", "data"),
    *("terminal", "datasets", "parallel", "run_dir", "losses", "models", "objectives", "training"),
    *("planning", "convert", "inference", "evals", "studies", "finetuning", "app"),
    "commands",
)
# A command joins the other processes of its job once its flags are read.
ALLOWED = {("config/command_line.py", "parallel")}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    """The folders and files of the package that a module imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("vljepa_jax."))


def test_every_folder_has_its_place():
    names = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert names - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    name = str(path.relative_to(PACKAGE))
    own = name.split("/")[0].removesuffix(".py")
    if own == "__init__":
        return
    before = ORDER[: ORDER.index(own) + 1]
    above = {other for other in imported(path) if other not in before}
    assert {other for other in above if (name, other) not in ALLOWED} == set()
