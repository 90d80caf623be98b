"""A frozen X-Encoder's visual tokens S_V on disk, beside the records they were computed from.

A cache is a directory ``DATASET/visual_tokens/SPLIT/CLIPS-KEY`` with ``tokens.npy``, float32
[clips, n, x], and ``index.json``, which tells the row of each clip and why some could not be read.
CLIPS names a choice of clips, KEY all else that the tokens depend on.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vljepa_jax.data.records import ClipError

# A clip: the index of a record, and the indices of its media that form X_V.
ClipKey = tuple[int, tuple[int, ...]]


def cache_directory(dataset_directory: str, split: str, clips: str, key: str) -> Path:
    """Where the cache of a choice of a split's clips lies."""
    return Path(dataset_directory) / "visual_tokens" / split / f"{clips}-{key}"


def caches_of(dataset_directory: str, split: str, key: str) -> list[TokenCache]:
    """All caches of a split with this key, of whatever clips."""
    root = Path(dataset_directory) / "visual_tokens" / split
    return [TokenCache(directory) for directory in sorted(root.glob(f"*-{key}"))]


class TokenCache:
    """Random access to the tokens of a cache; cheap to send to worker processes."""

    def __init__(self, directory: Path):
        self._directory = directory

    def __getitem__(self, clip: ClipKey) -> Float[np.ndarray, "n x"]:
        """The tokens of a clip.

        Raises:
            ClipError: the clip could not be read when the cache was made.
        """
        row, reason = self._index[clip]
        if reason is not None:
            raise ClipError(reason)
        return np.array(self._tokens[row])

    def __contains__(self, clip: ClipKey) -> bool:
        return clip in self._index

    @functools.cached_property
    def _index(self) -> dict[ClipKey, tuple[int, str | None]]:
        entries = json.loads((self._directory / "index.json").read_text())
        return {
            (record, tuple(inputs)): (row, reason)
            for row, (record, inputs, reason) in enumerate(entries)
        }

    @functools.cached_property
    def _tokens(self) -> np.ndarray:
        return np.load(self._directory / "tokens.npy", mmap_mode="r")

    def __getstate__(self) -> dict[str, Path]:  # what is open or large stays behind
        return {"_directory": self._directory}


def write_token_cache(
    directory: Path,
    clips: Sequence[ClipKey],
    tokens: Iterable[Float[np.ndarray, "n x"] | ClipError],
    shape: tuple[int, int],
) -> None:
    """Writes a cache; it appears under its name when it is complete.

    Args:
        directory: where the cache will be; one that is there meanwhile is kept.
        clips: distinct clips.
        tokens: of each clip, in order, or why it could not be read.
        shape: (n, x) of the tokens of a clip.

    Raises:
        OSError: the disk is full, say; nothing remains then.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.partial-", dir=directory.parent))
    try:
        entries = []
        # Written in order, not mapped: a full disk is then an error and not a bus fault.
        with (scratch / "tokens.npy").open("wb") as file:
            form = {"descr": "<f4", "fortran_order": False, "shape": (len(clips), *shape)}
            np.lib.format.write_array_header_2_0(file, form)
            for (record, inputs), value in zip(clips, tokens, strict=True):
                unreadable = isinstance(value, ClipError)
                row = np.zeros(shape, "<f4") if unreadable else np.asarray(value, "<f4")
                file.write(row.tobytes())
                entries.append([record, list(inputs), str(value) if unreadable else None])
        (scratch / "index.json").write_text(json.dumps(entries))
        os.chmod(scratch, 0o755)
        try:
            os.rename(scratch, directory)
        except OSError:
            if not directory.exists():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
