"""The datasets of an evaluation: opened once, and their clips, decoded."""

from __future__ import annotations

import itertools
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vljepa_jax.config import VideoInput, WorldConfig
from vljepa_jax.data.datasets import find_dataset, require_split
from vljepa_jax.data.media_bytes import stamp
from vljepa_jax.data.records import Annotation, ClipError, Medium
from vljepa_jax.data.shards import Annotations
from vljepa_jax.data.storage import Dataset
from vljepa_jax.data.token_cache import ClipKey
from vljepa_jax.data.workers import decode_media
from vljepa_jax.evals.examples import ClipRef

_MANY = 1 << 15  # annotations of a split that are not kept in memory


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

    def annotations(self, path: str, split: str) -> Annotations | list[tuple[int, Annotation]]:
        """All annotations of a split with their record's index; no medium is read.

        Few are kept in memory, as several benchmarks read them; of many there are too many.

        Raises:
            DatasetError: there is no such dataset or split.
        """
        if (path, split) in self._annotations:
            return self._annotations[path, split]
        require_split(self[path], path, split)
        annotations = self[path].annotations(split)
        if len(annotations) > _MANY:
            return annotations
        self._annotations[path, split] = list(annotations)
        return self._annotations[path, split]

    def stamps(
        self, clips: Iterable[tuple[tuple[str, str], Sequence[ClipKey]]]
    ) -> Iterator[str | None]:
        """What changes with the content of each clip; ``None`` where its file is missing.

        Args:
            clips: (path, split) and the records and media of clips there.
        """
        for (path, split), keys in clips:
            media = self[path].media(split)
            for index, inputs in keys:
                record = media[index]
                try:
                    chosen = [record.media[i] for i in inputs]
                    yield json.dumps([[stamp(m), *_place(m)] for m in chosen])
                except ClipError:  # decoding it says why
                    yield None

    def decode(
        self, clips: Iterable[ClipRef], video: VideoInput, ahead: int = 0
    ) -> Iterator[tuple[ClipRef, np.ndarray | ClipError]]:
        """Decodes clips of any datasets, each with its error if it cannot be read.

        They come in the order of the files, which is faster than any other.

        Args:
            ahead: clips that may lie ready, as many as are taken at a time.
        """
        groups = _by_split(clips)
        keys = [(of, [(c.record, c.media) for c in group]) for of, group in groups.items()]
        ordered = itertools.chain.from_iterable(groups.values())
        yield from zip(ordered, self.decode_keys(keys, video, ahead), strict=True)

    def decode_keys(
        self,
        clips: Iterable[tuple[tuple[str, str], Sequence[ClipKey]]],
        video: VideoInput,
        ahead: int = 0,
    ) -> Iterator[np.ndarray | ClipError]:
        """``decode``, of clips that are told as ``stamps`` takes them."""
        for (path, split), keys in clips:
            media = self[path].media(split)
            yield from decode_media(media, keys, video, self._num_workers, ahead)


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
