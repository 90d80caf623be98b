"""Embeddings of an evaluation on disk: computed once, for all benchmarks and later runs.

A folder for each model, by its fingerprint, holds shards, two files each: NAME.vectors.npy, which
is mapped, and NAME.keys.npy. A key is a hash of all that a vector depends on beside the weights:
what the media are, how they are read, and the query; or the text. Shards are only ever added and
count from the moment that their keys appear, so that processes write at the same time and may be
killed at any point. What no longer serves is deleted by hand, a model's folder at once.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vljepa_jax.config import ConfigError

_KEY = 16  # bytes of a SHA-256 that name a vector
_SHARD_BYTES = 32 << 20  # of vectors that wait to be written
_SECONDS = 60.0  # that they wait at most: what is killed loses no more
_STALE = 24 * 3600.0  # seconds after which a file that was not completed is nobody's any more


class CacheError(ConfigError):
    """A cache that cannot be used; the message names the file and the mend."""


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
        self._starts: list[int] = []  # rows before each shard
        self._rows: dict[bytes, int] = {}
        self._waiting: dict[bytes, np.ndarray] = {}
        self._since = time.monotonic()
        self.refresh()

    def __enter__(self) -> EmbeddingCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()

    def __contains__(self, key: bytes) -> bool:
        return key in self._waiting or key in self._rows

    def __len__(self) -> int:
        """Vectors that are there, written or waiting."""
        return len(self._rows.keys() | self._waiting.keys())

    def read(self, keys: Sequence[bytes]) -> Float[np.ndarray, "n e"]:
        """The vectors of keys that are there, as they were added."""
        found = np.zeros((len(keys), self._size), np.float32)
        shards = list(self._shards.values())
        # In the order of the files: what is mapped is then read once.
        for row, place in sorted((self._rows.get(key, -1), i) for i, key in enumerate(keys)):
            if row < 0:
                found[place] = self._waiting[keys[place]]
                continue
            shard = bisect.bisect_right(self._starts, row) - 1
            found[place] = shards[shard][row - self._starts[shard]]
        return found

    def add(self, keys: Sequence[bytes], vectors: Float[np.ndarray, "n e"]) -> None:
        """Keeps vectors; they are written soon, and at the latest by ``flush``."""
        self._waiting.update(zip(keys, vectors, strict=True))
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
        start = self._starts[-1] + len(list(self._shards.values())[-1]) if self._shards else 0
        self._shards[path.name] = vectors
        self._starts.append(start)
        for row, key in enumerate(keys):
            self._rows[key.tobytes()] = start + row


def _vectors_of(keys: Path) -> Path:
    return keys.with_name(keys.name.replace(".keys.", ".vectors."))


def _save(path: Path, array: np.ndarray) -> None:
    """Writes a file that appears when it is whole."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.save(file, array)
    os.replace(temporary, path)
