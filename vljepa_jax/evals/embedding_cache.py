"""Embeddings of an evaluation on disk: computed once, for all benchmarks and later runs.

A folder for each model, by its fingerprint, holds shards, two files each: NAME.vectors.npy, which
is mapped, and NAME.keys.npy. A key is a hash of all that a vector depends on beside the weights:
what the media are, how they are read, and the query; or the text. Shards are only ever added and
count from the moment that their keys appear, so that processes write at the same time and may be
killed at any point. What no longer serves is deleted by hand, a model's folder at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vljepa_jax.config import ConfigError

_KEY = 16  # bytes of a SHA-256 that name a vector
_KEYS = np.dtype(f"S{_KEY}")  # compares all bytes, though zeros at the end are not shown
_SHARD_BYTES = 32 << 20  # of vectors that wait to be written
_SECONDS = 60.0  # that they wait at most: what is killed loses no more
_STALE = 24 * 3600.0  # seconds after which a file that was not completed is nobody's any more


class CacheError(ConfigError):
    """A cache that cannot be used; the message names the file and the mend."""


def as_keys(names: Iterable[bytes]) -> np.ndarray:
    """Names of vectors as one array, [n]."""
    return np.fromiter(names, _KEYS)


def vector_key(*parts: Any) -> bytes:
    """The name of a vector: equal for equal parts, which are plain values, fit for JSON."""
    return hashlib.sha256(json.dumps(parts).encode()).digest()[:_KEY]


class EmbeddingCache:
    """The vectors of one model; a context manager, whose end writes what waits."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        fingerprint: str,
        size: int,
        *,
        shard_bytes: int = _SHARD_BYTES,
    ) -> None:
        """Opens it; it is made when the first shard is written.

        Args:
            directory: of all models.
            fingerprint: of the model, ``Embedder.fingerprint``.
            size: E of its vectors.
            shard_bytes: of vectors that are kept in memory before they are written.

        Raises:
            CacheError: a file there is no shard of such vectors.
        """
        self._directory = Path(directory) / fingerprint
        self._size = size
        self._limit = max(1, shard_bytes // (4 * size))  # vectors
        self._shards: dict[str, np.ndarray] = {}  # the vectors, by the name of the keys' file
        self._keys: list[np.ndarray] = []  # of each shard
        self._index: tuple[np.ndarray, np.ndarray] | None = None  # all keys, ascending; their rows
        self._waiting: dict[bytes, np.ndarray] = {}
        self._since = time.monotonic()
        self.refresh()

    def __enter__(self) -> EmbeddingCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()

    def __len__(self) -> int:
        """Vectors that are there, written or waiting."""
        return len(np.unique(np.concatenate([self._waiting_keys(), *self._keys])))

    def has(self, keys: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Which keys (``as_keys``) are there."""
        return (self._rows(keys) >= 0) | np.isin(keys, self._waiting_keys())

    def read(self, keys: np.ndarray) -> Float[np.ndarray, "n e"]:
        """The vectors of keys that are there, as they were added."""
        found = np.zeros((len(keys), self._size), np.float32)
        rows = self._rows(keys)
        for place in np.flatnonzero(rows < 0):
            found[place] = self._waiting[_whole(keys[place])]
        # In the order of the files: what is mapped is then read once.
        places = np.argsort(rows, kind="stable")
        end = 0
        for shard in self._shards.values():
            start, end = end, end + len(shard)
            own = places[slice(*np.searchsorted(rows, (start, end), sorter=places))]
            found[own] = shard[rows[own] - start]
        return found

    def add(self, keys: np.ndarray, vectors: Float[np.ndarray, "n e"]) -> None:
        """Keeps vectors; they are written soon, and at the latest by ``flush``."""
        self._waiting.update(zip(map(_whole, keys), vectors, strict=True))
        if len(self._waiting) >= self._limit or time.monotonic() - self._since > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        self._since = time.monotonic()
        if not self._waiting:
            return
        keys = np.frombuffer(b"".join(self._waiting), np.uint8).reshape(-1, _KEY)
        vectors = np.stack(list(self._waiting.values())).astype(np.float32)
        self._directory.mkdir(parents=True, exist_ok=True)
        path = (
            self._directory / f"{secrets.token_hex(8)}.keys.npy"
        )  # no other process has this name
        _save(_vectors_of(path), vectors)
        _save(path, keys)  # from here on it counts
        self._waiting.clear()
        self._open(path)

    def refresh(self) -> None:
        """Looks for shards that other processes have written since, and sweeps up."""
        if not self._directory.is_dir():
            return
        for path in sorted(self._directory.glob("*.keys.npy")):
            if path.name not in self._shards:
                self._open(path)
        whole = {_vectors_of(self._directory / name) for name in self._shards}
        left = {*self._directory.glob("*.tmp"), *self._directory.glob("*.vectors.npy")} - whole
        for path in left:
            try:
                if time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()
            except FileNotFoundError:  # it was completed just now, or swept by another process
                continue

    def _open(self, path: Path) -> None:
        try:
            keys, vectors = np.load(path), np.load(_vectors_of(path), mmap_mode="r")
        except (OSError, ValueError) as error:
            raise CacheError(
                f"{path}: cannot be read, or its vectors ({error}); delete both, and "
                "what they held is embedded again"
            ) from error
        if vectors.dtype != np.float32 or vectors.shape != (len(keys), self._size):
            raise CacheError(
                f"{_vectors_of(path)}: is {vectors.dtype} {list(vectors.shape)}, where float32 "
                f"{[len(keys), self._size]} is expected; delete it and its keys, and what "
                "they held is embedded again"
            )
        self._shards[path.name] = vectors
        self._keys.append(np.ascontiguousarray(keys).view(_KEYS)[:, 0])
        self._index = None

    def _rows(self, keys: np.ndarray) -> Int[np.ndarray, " n"]:
        """Of each key its row among those of all shards, -1 where it is in none."""
        if self._index is None:
            together = np.concatenate([np.zeros(0, _KEYS), *self._keys])
            order = np.argsort(together, kind="stable")
            self._index = together[order], order
        known, rows = self._index
        if not len(known):
            return np.full(len(keys), -1)
        places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where(known[places] == keys, rows[places], -1)

    def _waiting_keys(self) -> np.ndarray:
        return as_keys(self._waiting)


def _whole(key: np.bytes_) -> bytes:
    """The name of a vector, with the zeros at its end."""
    return bytes(key).ljust(_KEY, b"\0")


def _vectors_of(keys: Path) -> Path:
    return keys.with_name(keys.name.replace(".keys.", ".vectors."))


def _save(path: Path, array: np.ndarray) -> None:
    """Writes a file that appears when it is whole."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.save(file, array)
    os.replace(temporary, path)
