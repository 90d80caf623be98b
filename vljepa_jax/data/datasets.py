"""Datasets by the name that recipes and flags give them: a directory, or "@world"."""

from __future__ import annotations

from vljepa_jax.config import WORLD, WorldConfig
from vljepa_jax.data.storage import Dataset, open_dataset
from vljepa_jax.data.world.build import build_world


def find_dataset(path: str, world: WorldConfig | None) -> Dataset:
    """Opens a dataset.

    Args:
        path: a directory, on a disk or gs://; or "@world", the bundled world, built if need be.
        world: what "@world" stands for; ``None`` where it is not asked for.

    Raises:
        DatasetError: ``path`` is not there, or holds no dataset of this format.
    """
    return open_dataset(build_world(world) if path == WORLD else path)
