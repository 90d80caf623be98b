"""Directories of weights in the Hugging Face layout, read lazily: one tensor at a time.

safetensors files hold numbers and names only: unlike pickled .pt and .bin files they cannot run
code when they are opened, and those are never opened here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from vljepa_jax import json_text
from vljepa_jax.convert.rules import Filled, Table, fill
from vljepa_jax.convert.transforms import Misfit

_SINGLE = "model.safetensors"
_OPEN_CLIP = "open_clip_model.safetensors"  # as OpenCLIP names it
_INDEX = "model.safetensors.index.json"
_PICKLED = (".pt", ".pth", ".bin", ".pkl", ".ckpt")


class SafetensorsFolder(Mapping[str, np.ndarray]):
    """The tensors of one directory by name; each access reads from the file anew.

    Attributes:
        faults: what is wrong with the files, one line each; their tensors are then absent.
    """

    def __init__(self, directory: Path) -> None:
        """Reads the names, from model.safetensors or from the shards that its index names."""
        self.faults: list[str] = []
        self._files: dict[str, Any] = {}  # key -> open file
        single = next((n for n in (_SINGLE, _OPEN_CLIP) if (directory / n).is_file()), None)
        if single is not None:
            self._open(directory / single, None)
        elif (directory / _INDEX).is_file():
            self._open_shards(directory)
        else:
            self.faults.append(
                f"{directory}: holds neither {_SINGLE} nor {_INDEX}" + _instead(directory)
            )

    def __getitem__(self, key: str) -> np.ndarray:
        """Raises ``Misfit`` where the file holds a type that numpy has no counterpart of."""
        try:
            return self._files[key].get_tensor(key)
        except (safetensors.SafetensorError, TypeError, AttributeError) as error:
            raise Misfit(f"cannot be read ({error})") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def _open_shards(self, directory: Path) -> None:
        index = directory / _INDEX
        try:
            names = json_text.read_json(index, dict).get("weight_map")
        except json_text.JSONError as error:
            self.faults.append(str(error))
            return
        if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
            self.faults.append(f"{index}: has no 'weight_map' from tensors to files beside it")
            return
        shards: dict[str, set[str]] = {}
        for key, shard in names.items():
            shards.setdefault(shard, set()).add(key)
        for shard, keys in sorted(shards.items()):
            if Path(shard).name != shard:
                self.faults.append(f"{index}: names '{shard}', which is not beside it")
            elif not os.path.isfile(directory / shard):  # nor is what no file can be called
                self.faults.append(f"{index}: names the shard {shard}, which is missing")
            else:
                self._open(directory / shard, keys)

    def _open(self, path: Path, expected: set[str] | None) -> None:
        try:
            file = safetensors.safe_open(path, framework="numpy")
        except (safetensors.SafetensorError, OSError) as error:
            size = path.stat().st_size
            fault = f"{path}: {size} bytes are no whole safetensors file ({error})"
            self.faults.append(fault + _as_text(path))
            return
        keys = set(file.keys())
        for key in sorted((expected or keys) - keys):
            self.faults.append(f"{path}: has no {key}, which {_INDEX} places there")
        for key in sorted(keys - (expected or keys)):
            self.faults.append(f"{path}: holds {key}, which {_INDEX} does not place there")
        self._files |= dict.fromkeys(sorted(keys & (expected or keys)), file)


class Joined(Mapping[str, np.ndarray]):
    """Several mappings as one; the keys of each get its prefix."""

    def __init__(self, parts: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        self._places = {prefix + key: (part, key) for prefix, part in parts.items() for key in part}

    def __getitem__(self, key: str) -> np.ndarray:
        part, inner = self._places[key]
        return part[inner]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def fill_from(
    directory: Path, sources: Mapping[str, SafetensorsFolder], table: Table, target: dict
) -> tuple[Filled, list[str]]:
    """The parameters that folders of a directory hold, and all that is wrong, with its place.

    Args:
        directory: what faults are said to be in that name no file.
        sources: prefix of the keys -> folder.
        table: the family's keys.
        target: nested dict of shapes and types.
    """
    faults = [fault for source in sources.values() for fault in source.faults]
    filled = fill(Joined(sources), table, target)
    # Where files are missing, the gaps that they leave say nothing more.
    faults += [f for f in filled.faults if not (faults and ": missing, " in f)]
    return filled, [f if str(directory) in f else f"{directory}: {f}" for f in faults]


def read_json(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The object in a JSON file, or None and why not."""
    if not path.exists():
        return None, [f"{path}: is missing"]
    try:
        return json_text.read_json(path, dict), []
    except json_text.JSONError as error:
        return None, [str(error) + _as_text(path, unless="{[")]


def _instead(directory: Path) -> str:
    """What there is in place of the weights, and what to do."""
    files = _list(directory)
    if pickled := [p.name for p in files if p.suffix in _PICKLED]:
        return f"; {pickled[0]} is pickled, see docs/weights.md"
    if renamed := [p.name for p in files if p.suffix == ".safetensors"]:
        return f"; if {renamed[0]} is that file under another name, name it {_SINGLE}"
    return ""


def _as_text(path: Path, unless: str = "") -> str:
    """The beginning of a text: what a server, or Git LFS, gave in place of the file.

    Args:
        unless: letters with which the file itself may begin.
    """
    if not path.is_file() or not os.access(path, os.R_OK):
        return ""
    with path.open("rb") as file:
        beginning = file.read(80)
    try:
        line = beginning.decode("ascii").partition("\n")[0]
    except UnicodeDecodeError:
        return ""
    if not line or not line.isprintable() or line.startswith(tuple(unless)):
        return ""
    return f"; it begins '{line}': fetch it anew, with access to the repository where that is gated"


def _list(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []
