"""Datasets by the name that recipes and flags give them: a directory, "@data/NAME", or "@world"."""

from __future__ import annotations

from vljepa_jax.config import DATA, WORLD, ConfigError, WorldConfig
from vljepa_jax.data.shards import DatasetError
from vljepa_jax.data.storage import Dataset, open_dataset
from vljepa_jax.data.world.build import build_world
from vljepa_jax.places import place


class AbsentDatasetError(DatasetError):
    """A public dataset, or a split of it, that was not prepared; the message says how to."""


def find_dataset(path: str, world: WorldConfig | None, data: str = "") -> Dataset:
    """Opens a dataset.

    Args:
        path: a directory, on a disk or gs://; "@data/NAME", the directory NAME below ``data``; or
            "@world", the bundled world, built if need be.
        world: what "@world" stands for; ``None`` where it is not asked for.
        data: the folder of the datasets that are called "@data/NAME"; "" where none is.

    Raises:
        AbsentDatasetError: there is no such directory below ``data``.
        ConfigError: "@data/NAME" is asked for without ``data``.
        DatasetError: ``path`` is not there, or holds no dataset of this format.
    """
    if path == WORLD:
        return open_dataset(build_world(world))
    if not path.startswith(DATA):
        return open_dataset(path)
    if not data:
        raise ConfigError(f"'{path}' is a dataset below config.data, which is empty: name a folder")
    directory = place(data) / path.removeprefix(DATA)
    if not directory.is_dir():
        raise AbsentDatasetError(f"there is no {directory}: {_how_to_prepare(path, '', data)}")
    return open_dataset(directory)


def require_split(dataset: Dataset, path: str, split: str) -> None:
    """Raises AbsentDatasetError where a dataset that is called "@data/NAME" lacks a split."""
    if path.startswith(DATA) and split not in dataset.splits:
        flag = f" --splits={split}"
        raise AbsentDatasetError(
            f"{dataset.directory} has no split '{split}': {_how_to_prepare(path, flag, '')}"
        )


def _how_to_prepare(path: str, flag: str, data: str) -> str:
    name = path.removeprefix(DATA)
    output = f"{data.rstrip('/')}/{name}" if data else "..."
    return (
        f"python launch/prepare.py --dataset={name}{flag} --root=... --output={output} makes it of"
        " the official files"
    )
