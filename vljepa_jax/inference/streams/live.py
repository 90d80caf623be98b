"""Following a live source: source, model and narrator put together, and what people see."""

from __future__ import annotations

import dataclasses
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rich.console

from vljepa_jax.data.ffmpeg import PlayedFrame
from vljepa_jax.data.live_source import LiveSource, play
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.streams.live_events import Events, StreamSummary
from vljepa_jax.inference.streams.narrator import (
    Familiarity,
    Labels,
    Narrator,
    Said,
    read_lines,
)
from vljepa_jax.inference.streams.online_segmentation import OnlineSegmenter
from vljepa_jax.inference.streams.window_reader import Arrival, WindowReader
from vljepa_jax.inference.streams.windows import SlidingWindow
from vljepa_jax.inference.tasks import CAPTION_QUERY
from vljepa_jax.ownership import LOCK, owned

_BATCH, _FAST_BATCH = 4, 32  # windows embedded at once, live and as fast as it can be
_POLL = 0.2  # seconds between looks at the query and for Ctrl-C
_STATUS_SECONDS = 10.0  # between status events


class LiveError(ValueError):
    """Settings that cannot work; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class LiveSettings:
    """The flags of ``launch/stream.py``; rate and threshold exclude each other.

    Raises LiveError where they do not fit each other.

    Attributes:
        query: ``None`` is "Describe this video in one sentence.".
        query_file: its content is the query, whenever it changes.
        typed: whether lines on standard input are queries.
        window, change_window, change_delay, patience: seconds.
        rate: segments per second.
        encoding: of texts, labels and the query's file, see ``narrator.read_lines``.
    """

    query: str | None = None
    query_file: str | None = None
    typed: bool = False
    window: float = 2.0
    ticks_per_second: float = 2.0
    rate: float | None = 0.35
    threshold: float | None = None
    change_window: float = 4.0
    change_delay: float = 1.0
    patience: float = 5.0
    fast: bool = False
    texts: str | None = None
    labels: str | None = None
    encoding: str | None = None
    jsonl: str | None = None
    timeline: str | None = None

    def __post_init__(self) -> None:
        self.segmenter()

    def segmenter(self) -> OnlineSegmenter:
        """A new one; raises LiveError where the settings do not fit each other."""
        ticks = self.ticks_per_second
        try:
            return OnlineSegmenter(
                window=max(1, round(self.change_window * ticks)),
                delay=max(1, round(self.change_delay * ticks)),
                threshold=self.threshold,
                rate=None if self.rate is None else self.rate / ticks,
                ahead=1.0,
            )
        except ValueError as error:
            raise LiveError(
                f"{error} (--rate_hz={self.rate}, --threshold={self.threshold}, "
                f"--ticks_per_second={ticks})"
            ) from error


def follow(
    model: Embedder,
    source: LiveSource,
    settings: LiveSettings,
    *,
    console: rich.console.Console | None = None,
    events: Events | None = None,
    stopped: threading.Event | None = None,
    player: Callable[[LiveSource], Iterator[PlayedFrame]] = play,
) -> StreamSummary:
    """Follows a source until it ends, ``stopped`` is set, or Ctrl-C.

    Args:
        console: where lines are printed.
        events: takes what is to be told, in place of the console and the files of ``settings``.
        stopped: ends it from another thread.
        player: opens the source.

    Raises:
        LiveError: there is nothing to say texts with.
        SourceError, ClipError: the source cannot be read, and does not come back.
    """
    batch = _FAST_BATCH if settings.fast and not source.reconnects else _BATCH
    batch = min(batch, model.batch_size)
    say = _speaker(model, settings)
    narrator = Narrator(
        say,
        settings.segmenter,
        window=settings.window,
        patience=settings.patience,
    )
    sliding = SlidingWindow(
        model.video, seconds=settings.window, ticks_per_second=settings.ticks_per_second
    )
    notices: list[str] = []  # before there is anything that shows them
    queries = _Queries(settings, notices.append)
    size = model.video.image_size
    blank = np.zeros((batch, model.video.frames, size, size, 3), np.uint8)
    for rows in (batch, 2, 1):  # compiled before the source is opened, not while it waits
        embeddings = model.predict(blank[:rows], [queries.query] * rows)
    say(embeddings[0])
    with ExitStack() as stack:
        console = console or rich.console.Console(highlight=False)
        if settings.jsonl:  # its lines would be mixed with another's
            folder, name = os.path.split(os.path.abspath(settings.jsonl))
            stack.enter_context(owned(Path(folder), name=f".{name}{LOCK}"))
        if events is None:
            events = Events(console, settings.jsonl, settings.timeline)
        stack.enter_context(events)
        for notice in notices:
            events.notice(notice)
        queries.notify = events.notice
        stopped = stack.enter_context(_interrupts(stopped or threading.Event()))
        reader = WindowReader(
            source,
            sliding,
            fast=settings.fast,
            capacity=batch,
            notify=events.notice,
            player=player,
        )
        stack.enter_context(reader)
        session = _Session(model, narrator, reader, events, queries, batch)
        session.run(stopped)
        return session.finish()


class _Session:
    """The loop: takes windows, embeds them, says what there is to say."""

    def __init__(
        self,
        model: Embedder,
        narrator: Narrator,
        reader: WindowReader,
        events: Events,
        queries: _Queries,
        batch: int,
    ) -> None:
        self._model, self._narrator, self._reader = model, narrator, reader
        self._events, self._queries, self._batch = events, queries, batch
        self._began = time.monotonic()
        self._lags = _Recent(256)
        self._familiarity = Familiarity()
        self._dropped = 0
        self._reached = 0.0
        self._next_status = self._began + _STATUS_SECONDS

    def run(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            arrivals = self._reader.take(_POLL, self._batch)
            if arrivals is None:
                return
            if self._queries.changed():
                self._say(self._narrator.restart())  # other queries' embeddings do not compare
                self._events.write("query", query=self._queries.query)
                self._events.notice(f"query: {self._queries.query}")
            if arrivals:
                self._embed(arrivals)
            self._tell()

    def finish(self) -> StreamSummary:
        self._say(self._narrator.restart())
        seconds = time.monotonic() - self._began
        windows = self._narrator.windows
        summary = StreamSummary(
            seconds,
            windows,
            self._narrator.decoded,
            1 - self._narrator.decoded / windows if windows else 0.0,
            self._reader.dropped,
            self._reader.reconnections,
            windows / seconds,
            self._lags.median(),
        )
        self._events.finish(summary)
        return summary

    def _embed(self, arrivals: list[Arrival]) -> None:
        clips = np.stack([arrival.window.clip for arrival in arrivals])
        queries = [self._queries.query] * len(clips)
        embeddings, novelty = self._model.predict_and_judge(clips, queries)
        for arrival, embedding, new in zip(arrivals, embeddings, novelty, strict=True):
            if arrival.restarted:
                self._say(self._narrator.restart())
            window = arrival.window
            self._events.judge(self._familiarity.feed(float(new)))
            for said in self._narrator.feed(window.end, embedding):
                self._say(said)
            self._lags.add(time.monotonic() - arrival.due)
            self._reached = window.end
            middle = window.clip[len(window.clip) // 2]
            self._events.tick(self._narrator.time, self._narrator.change, middle)

    def _say(self, said: Said | None) -> None:
        if said is not None:
            self._events.say(said, self._lags.last())

    def _tell(self) -> None:
        if self._reader.dropped > self._dropped:
            lost = self._reader.dropped - self._dropped
            self._events.dropped(lost, self._reader.dropped)
            self._dropped = self._reader.dropped
        status = {
            "time": round(self._reached, 3),
            "windows": self._narrator.windows,
            "decodings": self._narrator.decoded,
            "windows_per_second": round(
                self._narrator.windows / (time.monotonic() - self._began), 2
            ),
            "lag": round(self._lags.last(), 3),
            "dropped": self._reader.dropped,
        }
        self._events.show(status)
        if time.monotonic() >= self._next_status:
            self._events.write("status", **status)
            self._next_status += _STATUS_SECONDS


class _Queries:
    """The present query, from the flag, the file or the terminal."""

    def __init__(self, settings: LiveSettings, notify: Callable[[str], None]) -> None:
        """``notify``: told why a file's content is no query."""
        self.notify = notify
        self.query = CAPTION_QUERY if settings.query is None else settings.query
        self._file, self._typed = settings.query_file, settings.typed
        self._encoding = settings.encoding
        self._stamp: int | None = None
        self._line = ""  # typed so far
        self.changed()  # the file's, from the beginning

    def changed(self) -> bool:
        """Looks for a new query; whether there is one."""
        before = self.query
        if self._file:
            try:
                stamp = os.stat(self._file).st_mtime_ns
                if stamp != self._stamp:
                    self._stamp = stamp
                    self.query = " ".join(read_lines(self._file, self._encoding)) or before
            except FileNotFoundError:
                self._stamp = None  # not there yet, or being replaced
            except (OSError, ValueError) as error:  # until it changes again
                self.notify(f"--query_file is not taken: {error}")
        while self._typed and self._is_typing():
            data = os.read(0, 4096)
            self._typed = bool(data)  # else standard input was closed
            *lines, self._line = (self._line + data.decode(errors="replace")).split("\n")
            for line in filter(None, map(str.strip, lines)):
                self.query = line
        return self.query != before

    def _is_typing(self) -> bool:
        try:
            return bool(select.select([0], [], [], 0)[0])
        except OSError:  # closed by who started the command
            self._typed = False
            return False


class _Recent:
    """The last numbers of many."""

    def __init__(self, size: int) -> None:
        self._numbers = np.zeros(size)
        self._count = 0

    def add(self, number: float) -> None:
        self._numbers[self._count % len(self._numbers)] = number
        self._count += 1

    def last(self) -> float:
        return float(self._numbers[(self._count - 1) % len(self._numbers)]) if self._count else 0.0

    def median(self) -> float:
        kept = self._numbers[: min(self._count, len(self._numbers))]
        return float(np.median(kept)) if len(kept) else 0.0


def _speaker(
    model: Embedder, settings: LiveSettings
) -> Callable[[np.ndarray], tuple[str, Mapping[str, float]]]:
    """Says of an embedding the best label, the Y-Decoder's text, or the nearest text."""
    try:
        if settings.labels:
            labels = Labels.read(settings.labels, model.embed_text, settings.encoding)

            def best(embedding: np.ndarray) -> tuple[str, Mapping[str, float]]:
                scores = labels.scores(embedding)
                return next(iter(scores)), scores

            return best
        if settings.texts:
            bank = model.text_bank(read_lines(settings.texts, settings.encoding))
            return lambda embedding: (bank.decode(embedding[None])[0], {})
    except ValueError as error:
        raise LiveError(str(error)) from error
    if model.text_decoder is None:
        raise LiveError(
            "this model has no Y-Decoder: name one with --y_decoder=DIR, texts to choose from with "
            "--texts=FILE, or labels with --labels=FILE"
        )
    return lambda embedding: (model.decode(embedding[None])[0], {})


@contextmanager
def _interrupts(stopped: threading.Event) -> Iterator[threading.Event]:
    """The event, which Ctrl-C and SIGTERM set meanwhile; the second one kills."""

    def stop(number: int, frame: Any) -> None:
        stopped.set()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
