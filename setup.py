"""Puts the recipes into the wheel. All else is in pyproject.toml.

In the tree they lie beside the package, in configs/, where they are read and copied; a wheel has
them in vljepa_jax/recipes/configs/, as a folder beside the package would be anybody's "configs".
"""

import pathlib
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = pathlib.Path(self.build_lib) / "vljepa_jax/recipes/configs"
            shutil.rmtree(target, ignore_errors=True)  # of a build before
            shutil.copytree("configs", target, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": BuildWithRecipes})
