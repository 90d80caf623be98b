"""Embeddings of an evaluation on disk: computed once, for all benchmarks and later runs.

A folder for each model, by its fingerprint, holds shards: NumPy arrays of (key, vector), mapped and
not read whole. A key is a hash of all that a vector depends on beside the weights: what the media
are, how they are read, and the query; or the text. Shards are only ever added and appear when they
are whole, so that processes write at the same time and may be killed at any point. What no longer
serves is deleted by hand, a model's folder at once.
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
        self._type = np.dtype([("key", f"V{_KEY}"), ("vector", "<f4", (size,))])
        self._limit = max(1, shard_bytes // self._type.itemsize)
        self._shards: dict[str, np.ndarray] = {}
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
        found = np.zeros((len(keys), *self._type["vector"].shape), np.float32)
        shards = list(self._shards.values())
        # In the order of the files: what is mapped is then read once.
        for row, place in sorted((self._rows.get(key, -1), i) for i, key in enumerate(keys)):
            if row < 0:
                found[place] = self._waiting[keys[place]]
                continue
            shard = bisect.bisect_right(self._starts, row) - 1
            found[place] = shards[shard]["vector"][row - self._starts[shard]]
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
        shard = np.zeros(len(self._waiting), self._type)
        shard["key"] = np.frombuffer(b"".join(self._waiting), f"V{_KEY}")
        shard["vector"] = np.stack(list(self._waiting.values()))
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{secrets.token_hex(8)}.npy"  # no other process has this name
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.save(file, shard)
        os.replace(temporary, path)
        self._waiting.clear()
        self._open(path)

    def refresh(self) -> None:
        """Looks for shards that other processes have written since, and sweeps up."""
        if not self._directory.is_dir():
            return
        for path in sorted(self._directory.glob("*.npy")):
            if path.name not in self._shards:
                self._open(path)
        for path in self._directory.glob("*.tmp"):
            try:
                if time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()
            except FileNotFoundError:  # it was completed just now, or swept by another process
                continue

    def _open(self, path: Path) -> None:
        try:
            shard = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise CacheError(
                f"{path}: cannot be read ({error}); delete it, and what it held is embedded again"
            ) from error
        if shard.dtype != self._type:
            raise CacheError(
                f"{path}: holds no vectors of size {self._type['vector'].shape[0]} with their "
                "keys; delete it, and what it held is embedded again"
            )
        start = self._starts[-1] + len(list(self._shards.values())[-1]) if self._shards else 0
        self._shards[path.name] = shard
        self._starts.append(start)
        keys = shard["key"].tobytes()
        for row in range(len(shard)):
            self._rows[keys[row * _KEY : (row + 1) * _KEY]] = start + row
