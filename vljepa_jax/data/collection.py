"""Collections to embed: the clips of files, manifests and datasets, whole or in windows.

A clip has a name that stays the same from run to run, and a stamp that changes with its content,
so that an index can tell what is new.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence

import numpy as np

from vljepa_jax.config import WORLD, ConfigError, VideoInput, WorldConfig
from vljepa_jax.data.datasets import find_dataset
from vljepa_jax.data.manifest import Fault, open_manifest
from vljepa_jax.data.media_bytes import stamp
from vljepa_jax.data.media_files import each_once, media_files, why_nothing
from vljepa_jax.data.records import ClipError, Medium, clip_error
from vljepa_jax.data.shards import Media
from vljepa_jax.data.storage import Dataset, is_dataset, open_dataset
from vljepa_jax.data.video import load_clip, play_time
from vljepa_jax.data.workers import in_workers
from vljepa_jax.places import in_bucket

# Seconds of a medium.
Span = tuple[float, float]

_MOST_WINDOWS = 1_000_000  # of a clip: a damaged one may say that it is months long


@dataclasses.dataclass(frozen=True)
class Place:
    """Media of a record of a dataset.

    Attributes:
        dataset: its directory.
        split: of the dataset.
        record: index in the split.
        inputs: indices of the record's media that form X_V.
    """

    dataset: str
    split: str
    record: int
    inputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Item:
    """One clip of a collection.

    Attributes:
        name: unique; a path, a path with its span, or DATASET:SPLIT/RECORD.
        media: files or spans of files that form X_V, in order; () for a dataset's.
        place: where a dataset's media are; ``None`` for files.
    """

    name: str
    media: tuple[Medium, ...]
    place: Place | None = None

    def open(self) -> tuple[Medium, ...]:
        """The media, read from the dataset if need be.

        Raises:
            ClipError: the dataset no longer holds them.
        """
        if self.place is None:
            return self.media
        try:
            media = _media(self.place.dataset, self.place.split)[self.place.record].media
            return tuple(media[index] for index in self.place.inputs)
        except (ValueError, IndexError, OSError) as error:
            raise ClipError(f"{self.name}: cannot be read ({error})") from error

    def stamp(self) -> str:
        """Changes with the content: size and time of a file, a hash of embedded bytes.

        Raises:
            ClipError: a file is missing.
        """
        return " ".join(map(stamp, self.open()))

    def decode(self, video: VideoInput, span: Span | None) -> np.ndarray:
        """X_V, uint8 [frames, size, size, 3], of the whole or of a span (see ``windows``).

        Raises:
            ClipError: it cannot be read.
        """
        media = self.part(span)
        if video.frames % len(media):
            raise ClipError(f"{self.name}: {len(media)} media cannot share {video.frames} frames")
        return load_clip(media, video, rng=None)

    def part(self, span: Span | None) -> tuple[Medium, ...]:
        """The media of the whole, or that of a span (see ``windows``).

        Raises:
            ClipError: the dataset no longer holds them.
        """
        media = self.open()
        if span is None:
            return media
        offset = self._offset()
        start, end = (seconds + offset for seconds in span)
        return (dataclasses.replace(media[0], start=start, end=end),)

    def windows(self, window: float, stride: float) -> list[Span] | None:
        """Spans of ``window`` seconds, ``stride`` apart; the last one ends where the clip ends.

        ``None`` for what has no windows: an image, several media that form one input, and what is
        no longer than one window. Times are those of the file; where a dataset holds a copy of a
        part, they count from the beginning of that part.

        Raises:
            ClipError: it cannot be read.
        """
        media = self.open()
        times = play_time(media[0]) if len(media) == 1 else None
        if times is None:
            return None
        offset = self._offset()
        start, end = (seconds - offset for seconds in times)
        if end - start <= window:
            return None
        # A last window that begins less than a tenth of a stride after another would be a twin.
        count = int(np.ceil((end - start - window) / stride - 0.1))
        if count > _MOST_WINDOWS:
            raise clip_error(media[0], f"is {end - start:.0f} s long: {count:,} windows")
        starts = [start + index * stride for index in range(count)] + [end - window]
        return [(round(first, 3), round(first + window, 3)) for first in starts]

    def _offset(self) -> float:
        """Where time 0 of the reported spans is in the file that is decoded."""
        medium = self.open()[0]
        return medium.start or 0.0 if medium.data else 0.0


def list_items(
    sources: Sequence[str], world: WorldConfig | None, encoding: str | None = None
) -> tuple[list[Item], list[str]]:
    """The clips that a collection names, without decoding any medium.

    Args:
        sources: each a file, a directory, for all videos and images below it, or a glob pattern
            (``media_files``); a manifest (.jsonl); or a dataset's directory or "@world", with
            ":SPLIT" for one split, which alone may lie on gs://. What is there under its name is
            not taken for anything else.
        world: what "@world" stands for; ``None`` where it stands for nothing.
        encoding: of manifests, see ``open_manifest``.

    Returns:
        The clips, sorted and each once; and what is to be told: the faults of manifests' rows,
        and links and folders that lead nowhere.

    Raises:
        ConfigError: a source names nothing.
        DatasetError, ManifestError: a dataset or a manifest cannot be read.
    """
    items: list[Item] = []
    files: list[str] = []
    faults: list[str] = []
    for source in sources:
        before = len(items), len(files), len(faults)
        path, colon, split = source.rpartition(":")
        if not colon or "/" in split or os.path.exists(source):
            path, split = source, ""
        if path == WORLD or in_bucket(path) or is_dataset(path):
            items += _dataset_items(find_dataset(path, world), split)
        elif source.endswith(".jsonl") and not os.path.isdir(source):
            items += _manifest_items(source, encoding, faults)
        else:
            files += media_files(source, faults)
        if before == (len(items), len(files), len(faults)):
            raise ConfigError(f"--videos: {why_nothing(source)}")
    items += [Item(file, (Medium(path=file),)) for file in each_once(files)]
    unique = {item.name: item for item in items}
    return sorted(unique.values(), key=lambda item: item.name), faults


def decode_items(
    requests: Sequence[tuple[Item, Span | None]], video: VideoInput, num_workers: int
) -> Iterator[np.ndarray | ClipError]:
    """Decodes clips or spans of them; errors in the place of what cannot be read."""
    return in_workers(functools.partial(_decode, video), requests, num_workers)


def find_windows(
    items: Sequence[Item], window: float, stride: float, num_workers: int
) -> Iterator[list[Span | None] | ClipError]:
    """The windows of each item; ``[None]`` stands for the whole."""
    results = in_workers(functools.partial(_windows, window, stride), items, num_workers)
    for result in results:
        if isinstance(result, ClipError):
            yield result
        else:
            yield [(float(start), float(end)) for start, end in result] or [None]


def _manifest_items(path: str, encoding: str | None, faults: list[str]) -> Iterator[Item]:
    manifest = open_manifest(path, split=None, root=None, encoding=encoding)
    for row in manifest.rows(texts_needed=False):
        if isinstance(row, Fault):
            faults.append(str(row))
        elif row.annotation.inputs:
            media = tuple(row.media[index] for index in row.annotation.inputs)
            yield Item(" + ".join(map(_medium_name, media)), media)


def _dataset_items(dataset: Dataset, split: str) -> Iterator[Item]:
    for name in [split] if split else dataset.splits:
        for index, record in enumerate(dataset.records(name)):
            # Each distinct input that its annotations ask about, or the first medium.
            inputs = dict.fromkeys(a.inputs for a in record.annotations if a.inputs)
            for chosen in inputs or ([(0,)] if record.media else []):
                which = "" if chosen == (0,) else f"[{', '.join(map(str, chosen))}]"
                yield Item(
                    f"{dataset.directory}:{name}/{record.id}{which}",
                    (),
                    Place(dataset.directory, name, index, chosen),
                )


def _medium_name(medium: Medium) -> str:
    if medium.start is None and medium.end is None:
        return medium.source
    ends = ("" if seconds is None else f"{seconds:g}" for seconds in (medium.start, medium.end))
    return f"{medium.source} [{'-'.join(ends)} s]"


@functools.lru_cache(maxsize=8)
def _media(dataset: str, split: str) -> Media:
    return open_dataset(dataset).media(split)


def _decode(
    video: VideoInput, requests: Sequence[tuple[Item, Span | None]]
) -> list[np.ndarray | ClipError]:
    return [_attempt(item.decode, video, span) for item, span in requests]


def _windows(window: float, stride: float, items: Sequence[Item]) -> list[np.ndarray | ClipError]:
    found = [_attempt(item.windows, window, stride) for item in items]
    return [
        spans if isinstance(spans, ClipError) else np.reshape(np.array(spans or []), (-1, 2))
        for spans in found
    ]


def _attempt(function, *arguments):
    try:
        return function(*arguments)
    except ClipError as error:
        return error
