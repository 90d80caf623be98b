"""Search: the index of a page, made, updated, searched, and its hits played."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rich.console
from PIL import Image
from rich.progress import Progress

from vljepa_jax.app.visitors import Refused
from vljepa_jax.data.collection import list_items
from vljepa_jax.data.records import shown
from vljepa_jax.data.video import play_time, read_frames, thumbnails, write_mp4
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.search.collection import CollectionSummary, embed_collection
from vljepa_jax.inference.search.contact_sheet import filmstrip, when
from vljepa_jax.inference.search.hits import FOLD, Hit
from vljepa_jax.inference.search.index import SearchIndexError, VideoIndex

_STRIP, _STRIP_PIXELS = 3, 160  # frames of a hit's picture
_LONGEST, _RATE, _SIDE = 20.0, 12, 480  # of a played hit: seconds, frames a second, pixels


@dataclasses.dataclass(frozen=True)
class Progressed:
    """How far an index is: of one step, so many of so many."""

    step: str
    done: float
    total: float | None


class Library:
    """The index that a page searches, and the collection that it is of."""

    def __init__(
        self, model: Embedder, index: str | None, videos: Sequence[str], num_workers: int
    ) -> None:
        """Opens nothing yet.

        Args:
            index: its directory; ``None`` where the page has none.
            videos: the collection, as ``launch/embed.py`` takes it; () where it is not updated.
            num_workers: decoding processes.
        """
        self._model, self._directory = model, index
        self.videos, self._num_workers = tuple(videos), num_workers
        self._opened: VideoIndex | None = None
        self._state: tuple = ()
        self._lock = threading.Lock()

    def open(self) -> VideoIndex:
        """The index as it is on disk now.

        Raises:
            Refused: the page has none.
            SearchIndexError: there is no index, or it is damaged.
        """
        if self._directory is None:
            raise Refused("this page has no index: start it with --index=DIR")
        with self._lock:
            state = _state(Path(self._directory))
            if self._opened is None or state != self._state:
                self._opened, self._state = VideoIndex(self._directory), state
            return self._opened

    def described(self) -> str:
        """What is in it, for people."""
        try:
            index = self.open()
        except (Refused, SearchIndexError) as error:
            return str(error)
        made = index.settings
        cut = f"windows of {made.window:g} s" if made.window else "whole clips"
        return f"{len(index):,} embeddings of {len(index.entries):,} clips, {cut}"

    def find(
        self,
        text: str,
        example: np.ndarray | None,
        *,
        top: int = 10,
        threshold: float | None = None,
        names: str = "",
        each_once: bool = False,
        all_hits: bool = False,
    ) -> list[Hit]:
        """Hits of a text or of an example, as ``launch/search.py`` finds them.

        Args:
            example: a clip as ``Embedder.video`` says; ``None`` searches by the text.
            threshold: least score; ``None`` for none.
            names: a pattern of the names of clips, or a part of them; "" for all.
            all_hits: also those that the calibration takes for no match.

        Raises:
            Refused: there is nothing to search for, or no index.
            SearchIndexError: the index is damaged, or another model's.
        """
        index = self.open()
        limits = {"top": top, "threshold": threshold, "each_once": each_once, "fold": FOLD}
        if names:
            limits["names"] = names if any(mark in names for mark in "*?[") else f"*{names}*"
        if example is not None:
            hits = self._model.retrieve_like(example, index, **limits)
        elif text:
            hits = self._model.retrieve(text, index, **limits)
        else:
            raise Refused("type a text, or drop a clip or a picture to search by")
        return [hit for hit in hits if all_hits or hit.match is not False]

    def update(self, window: float, stride: float) -> Iterator[Progressed | CollectionSummary]:
        """Brings the index up to date, as ``launch/embed.py`` does; tells how far it is.

        Args:
            window, stride: seconds, for a new index; one that is there has its own.

        Yields:
            Progress every half second, and at last the summary.

        Raises:
            Refused: the page was not told of which videos.
            ConfigError, DatasetError, ManifestError, SearchIndexError, InUse: as the command.
        """
        if self._directory is None or not self.videos:
            raise Refused("this page updates no index: start it with --index=DIR and --videos=...")
        query = ""
        if os.path.exists(os.path.join(self._directory, "index.json")):
            made = self.open().settings
            query, window, stride = made.query, made.window, made.stride
        history = self._model.history
        items, faults = list_items(self.videos, None if history is None else history.config.world)
        bars = Progress(console=rich.console.Console(quiet=True), disable=True)
        made: list[CollectionSummary | Exception] = []

        def embed() -> None:
            try:
                made.append(
                    embed_collection(
                        self._model,
                        items,
                        faults,
                        self._directory,
                        query=query,
                        window=window,
                        stride=stride,
                        drop_missing=False,
                        num_workers=self._num_workers,
                        console=bars.console,
                        bars=bars,
                    )
                )
            except Exception as error:  # raised again below
                made.append(error)

        thread = threading.Thread(target=embed, daemon=True, name="embed-collection")
        thread.start()
        while thread.is_alive():
            for task in bars.tasks[-1:]:
                yield Progressed(task.description, task.completed, task.total)
            thread.join(timeout=0.5)
        if isinstance(made[0], Exception):
            raise made[0]
        yield made[0]


def picture(hit: Hit) -> Image.Image:
    """A few frames of a hit, side by side.

    Raises:
        ClipError: it can no longer be read.
    """
    return filmstrip(hit.item.decode(thumbnails(_STRIP, _STRIP_PIXELS), _span(hit)))


def title(hit: Hit) -> str:
    """A hit's name, time and score, and how many it stands for, for people."""
    parts = [os.path.basename(hit.name), when(hit), f"{hit.score:.3f}"]
    others = f"(+ {len(hit.folded)} like it)" if hit.folded else ""
    return shown("  ".join(part for part in (*parts, others) if part))


def played(hit: Hit) -> bytes:
    """A hit as a video that any browser plays, mp4 without sound, of its window alone.

    Of a clip that was embedded whole the beginning, and of a picture a second.

    Raises:
        ClipError: it can no longer be read.
    """
    medium, *_ = hit.item.part(_span(hit))
    times = play_time(medium)
    if times is None:
        count = _RATE
    else:
        start, end = times[0], min(times[1], times[0] + _LONGEST)
        medium = dataclasses.replace(medium, start=start, end=end)
        count = max(1, round((end - start) * _RATE))
    frames = read_frames(medium, (np.arange(count) + 0.5) / count, _fitted)
    return write_mp4(frames, fps=_RATE)


def _fitted(image: Image.Image) -> np.ndarray:
    """A frame for a video: no larger than a phone shows it, with even sides."""
    scale = min(1.0, _SIDE / max(image.size))
    width, height = (max(2, 2 * round(side * scale / 2)) for side in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _span(hit: Hit) -> tuple[float, float] | None:
    return None if hit.start is None else (hit.start, hit.end)


def _state(directory: Path) -> tuple:
    """Changes with the files of an index."""
    return tuple(sorted((path.name, path.stat().st_mtime_ns) for path in directory.glob("*.json")))
