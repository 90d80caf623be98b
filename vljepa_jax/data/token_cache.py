"""A frozen X-Encoder's visual tokens S_V on disk, beside the records they were computed from.

A cache is a directory ``DATASET/visual_tokens/SPLIT/CLIPS-KEY`` with ``tokens.npy``, float32
[clips, n, x], and ``index.json``, which tells the row of each clip and why some could not be read.
CLIPS names a choice of clips, KEY the encoder and how frames are taken. Media that are files
outside of the dataset may be replaced: the index tells of which state of the files tokens are.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vljepa_jax.data.media_bytes import stamp
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.shards import Media
from vljepa_jax.ownership import new_directory

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
        row, _, reason = self._index[clip]
        if reason is not None:
            raise ClipError(reason)
        return np.array(self._tokens[row])

    def holds(self, clip: ClipKey, stamp: str) -> bool:
        """Whether it has the clip's tokens, of this state of its files.

        That a clip could not be read is never believed later.
        """
        return self._index.get(clip, (0, None, None))[1:] == (stamp, None)

    def refuses(self, clip: ClipKey, stamp: str) -> bool:
        """Whether the clip could not be read, in this state of its files."""
        _, known, reason = self._index.get(clip, (0, None, None))
        return reason is not None and known == stamp

    @functools.cached_property
    def _index(self) -> dict[ClipKey, tuple[int, str, str | None]]:
        """Of each clip its row, the stamp of its files, and why it could not be read."""
        path = self._directory / "index.json"
        entries = json.loads(path.read_text()) if path.is_file() else []  # none yet
        # Three values were written when no stamps were.
        return {
            (record, tuple(inputs)): (row, *rest, reason) if rest else (row, "", reason)
            for row, (record, inputs, *rest, reason) in enumerate(entries)
        }

    @functools.cached_property
    def _tokens(self) -> np.ndarray:
        return np.load(self._directory / "tokens.npy", mmap_mode="r")

    def __getstate__(self) -> dict[str, Path]:  # what is open or large stays behind
        return {"_directory": self._directory}


def clip_stamps(media: Media, clips: Iterable[ClipKey]) -> list[str]:
    """Of each clip the state of its files: "" where all its media lie in the dataset."""
    return [_clip_stamp(media, clip) for clip in clips]


def _clip_stamp(media: Media, clip: ClipKey) -> str:
    record, inputs = clip
    if not media.has_paths(record):
        return ""
    found = media[record].media
    try:
        return " ".join(stamp(found[index]) for index in inputs if found[index].path)
    except ClipError:
        return "absent"


def write_token_cache(
    directory: Path,
    clips: Sequence[ClipKey],
    tokens: Iterable[Float[np.ndarray, "n x"] | ClipError],
    shape: tuple[int, int],
    stamps: Sequence[str],
) -> None:
    """Writes a cache; it appears under its name when it is complete, in the place of one before.

    Args:
        directory: where the cache will be.
        clips: distinct clips.
        tokens: of each clip, in order, or why it could not be read.
        shape: (n, x) of the tokens of a clip.
        stamps: of the clips' files (``clip_stamps``).

    Raises:
        OSError: the disk is full, say; nothing remains then.
    """
    with new_directory(directory, replace=True) as scratch:
        entries = []
        # Written in order, not mapped: a full disk is then an error and not a bus fault.
        with (scratch / "tokens.npy").open("wb") as file:
            form = {"descr": "<f4", "fortran_order": False, "shape": (len(clips), *shape)}
            np.lib.format.write_array_header_2_0(file, form)
            for (record, inputs), known, value in zip(clips, stamps, tokens, strict=True):
                unreadable = isinstance(value, ClipError)
                row = np.zeros(shape, "<f4") if unreadable else np.asarray(value, "<f4")
                file.write(row.tobytes())
                reason = str(value) if unreadable else None
                entries.append([record, list(inputs), known, reason])
        (scratch / "index.json").write_text(json.dumps(entries))
