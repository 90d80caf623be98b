"""The datasets of an evaluation: opened once, and their clips, decoded."""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from vljepa_jax.config import VideoInput, WorldConfig
from vljepa_jax.data.datasets import find_dataset, require_split
from vljepa_jax.data.media_bytes import stamp
from vljepa_jax.data.records import Annotation, ClipError, Medium
from vljepa_jax.data.storage import Dataset
from vljepa_jax.data.workers import decode_media
from vljepa_jax.evals.examples import ClipRef


class Datasets:
    """The datasets of one evaluation, by their paths.

    Args:
        world: what "@world" stands for; ``None`` where it is not asked for.
        num_workers: decoding processes.
        data: the folder of the datasets that are called "@data/NAME".
    """

    def __init__(self, world: WorldConfig | None, num_workers: int, data: str = "") -> None:
        self._world = world
        self._data = data
        self._num_workers = num_workers
        self._open: dict[str, Dataset] = {}
        self._annotations: dict[tuple[str, str], list[tuple[int, Annotation]]] = {}

    def __getitem__(self, path: str) -> Dataset:
        if path not in self._open:
            self._open[path] = find_dataset(path, self._world, self._data)
        return self._open[path]

    def annotations(self, path: str, split: str) -> list[tuple[int, Annotation]]:
        """All annotations of a split with their record's index; no medium is read.

        Raises:
            DatasetError: there is no such dataset or split.
        """
        if (path, split) not in self._annotations:
            require_split(self[path], path, split)
            self._annotations[path, split] = list(self[path].annotations(split))
        return self._annotations[path, split]

    def stamps(self, clips: Iterable[ClipRef]) -> dict[ClipRef, str]:
        """What changes with the content of each clip; a clip whose file is missing has none."""
        found = {}
        for (path, split), group in _by_split(clips).items():
            media = self[path].media(split)
            for clip in group:
                record = media[clip.record]
                chosen = [record.media[index] for index in clip.media]
                with contextlib.suppress(ClipError):  # decoding it says why
                    found[clip] = json.dumps([[stamp(m), *_place(m)] for m in chosen])
        return found

    def decode(
        self, clips: Iterable[ClipRef], video: VideoInput, ahead: int = 0
    ) -> Iterator[tuple[ClipRef, np.ndarray | ClipError]]:
        """Decodes clips of any datasets, each with its error if it cannot be read.

        They come in the order of the files, which is faster than any other.

        Args:
            ahead: clips that may lie ready, as many as are taken at a time.
        """
        for (path, split), group in _by_split(clips).items():
            decoded = decode_media(
                self[path].media(split),
                [(clip.record, clip.media) for clip in group],
                video,
                self._num_workers,
                ahead,
            )
            yield from zip(group, decoded, strict=True)


def _by_split(clips: Iterable[ClipRef]) -> dict[tuple[str, str], list[ClipRef]]:
    groups: dict[tuple[str, str], list[ClipRef]] = defaultdict(list)
    for clip in sorted(set(clips), key=file_order):
        groups[clip.path, clip.split].append(clip)
    return groups


def _place(medium: Medium) -> list[str | int | float | None]:
    """Where embedded bytes lie makes no difference; which part of a file is read does."""
    if not medium.path:
        return []
    path = os.fsencode(medium.path).decode("utf-8", "backslashreplace")
    return [path, medium.start, medium.end, medium.offset, medium.length]


def file_order(clip: ClipRef) -> tuple:
    """Sorts clips as they lie in the files."""
    return clip.path, clip.split, clip.record, clip.media
