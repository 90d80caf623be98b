"""Following a live source: source, model and narrator put together, and what people see."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import rich.console

from vljepa_jax.data.ffmpeg import PlayedFrame
from vljepa_jax.data.live_source import LiveSource, play
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.streams.alarms import Alarms
from vljepa_jax.inference.streams.delivery import Delivery
from vljepa_jax.inference.streams.live_events import Events, StreamSummary
from vljepa_jax.inference.streams.narrator import Labels, Narrator, read_lines
from vljepa_jax.inference.streams.online_segmentation import OnlineSegmenter
from vljepa_jax.inference.streams.queries import Queries
from vljepa_jax.inference.streams.session import Followed, Session
from vljepa_jax.inference.streams.window_reader import WindowReader
from vljepa_jax.inference.streams.windows import SlidingWindow
from vljepa_jax.inference.tasks import CAPTION_QUERY
from vljepa_jax.ownership import LOCK, owned

_BATCH, _FAST_BATCH = 4, 32  # windows embedded at once, live and as fast as it can be


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
        label_threshold: of labels whose lines have none; ``None`` takes the model's calibration.
        on_event: a command or an address that events are handed to, see ``Delivery``.
        cooldown: seconds of the stream, see ``Alarms``.
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
    label_threshold: float | None = None
    on_event: str | None = None
    cooldown: float = 30.0
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
    sources: LiveSource | Sequence[LiveSource],
    settings: LiveSettings,
    *,
    console: rich.console.Console | None = None,
    events: Events | None = None,
    stopped: threading.Event | None = None,
    player: Callable[[LiveSource], Iterator[PlayedFrame]] = play,
) -> StreamSummary:
    """Follows sources, together, until all have ended, ``stopped`` is set, or Ctrl-C.

    Args:
        console: where lines are printed.
        events: takes what is to be told, in place of the console and the files of ``settings``.
        stopped: ends it from another thread.
        player: opens a source.

    Raises:
        LiveError: there is nothing to say texts with, or settings do not fit the sources.
        DeliveryError: there is nothing to hand events to.
        SourceError, ClipError: none of the sources can be read, or comes back.
    """
    sources = [sources] if isinstance(sources, LiveSource) else list(sources)
    if settings.timeline and len(sources) > 1:
        raise LiveError(f"--timeline draws one source, and there are {len(sources)}")
    live = not settings.fast or any(source.reconnects for source in sources)
    batch = min(max(_BATCH, len(sources)) if live else _FAST_BATCH, model.batch_size)
    notices: list[str] = []  # before there is anything that shows them
    query = CAPTION_QUERY if settings.query is None else settings.query
    queries = Queries(query, settings.query_file, settings.typed, settings.encoding, notices.append)
    delivery = Delivery(settings.on_event, notices.append) if settings.on_event else None
    say, labels = _speaker(model, settings, queries)
    size = model.video.image_size
    blank = np.zeros((batch, model.video.frames, size, size, 3), np.uint8)
    for rows in (batch, 2, 1):  # compiled before the source is opened, not while it waits
        embeddings = model.predict(blank[:rows], [queries.query] * min(rows, batch))
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
        alarms = None
        if delivery is not None:
            delivery.notify = events.notice
            alarms = Alarms(delivery.offer, labels, settings.cooldown)
        changed = threading.Condition()
        followed = []
        for source, name in zip(sources, _names(sources), strict=True):
            own = events.of(name, named=len(sources) > 1)
            reader = WindowReader(
                source,
                SlidingWindow(
                    model.video,
                    seconds=settings.window,
                    ticks_per_second=settings.ticks_per_second,
                ),
                fast=settings.fast,
                capacity=batch,
                notify=own.notice,
                changed=changed,
                player=player,
            )
            narrator = Narrator(
                say, settings.segmenter, window=settings.window, patience=settings.patience
            )
            followed.append(Followed(stack.enter_context(reader), narrator, own, alarms))
        session = Session(model, followed, events, queries, changed, batch)
        with delivery or nullcontext():
            session.run(stopped)
        more = {} if delivery is None else {**delivery.counts(), "held_back": alarms.held_back}
        return session.finish(more)


def _names(sources: Sequence[LiveSource]) -> list[str]:
    """What events call them: without keys; of equal ones, with a number."""
    names: list[str] = []
    for source in map(str, sources):
        count = sum(name == source or name.startswith(f"{source} #") for name in names)
        names.append(f"{source} #{count + 1}" if count else source)
    return names


def _speaker(
    model: Embedder, settings: LiveSettings, queries: Queries
) -> tuple[Callable[[np.ndarray], tuple[str, Mapping[str, float]]], Labels | None]:
    """What says of an embedding a label, the Y-Decoder's text, or the nearest text; the labels."""

    def floor() -> float | None:
        if settings.label_threshold is not None:
            return settings.label_threshold
        calibration = model.calibration
        return None if calibration is None else calibration.floors.get(queries.query)

    try:
        if settings.labels:
            labels = Labels.read(settings.labels, model.embed_text, settings.encoding, floor)
            return labels.say, labels
        if settings.texts:
            bank = model.text_bank(read_lines(settings.texts, settings.encoding))
            return lambda embedding: (bank.decode(embedding[None])[0], {}), None
    except ValueError as error:
        raise LiveError(str(error)) from error
    if model.text_decoder is None:
        raise LiveError(
            "this model has no Y-Decoder: name one with --y_decoder=DIR, texts to choose from with "
            "--texts=FILE, or labels with --labels=FILE"
        )
    return lambda embedding: (model.decode(embedding[None])[0], {}), None


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
