"""Watch: ``streams.live.follow`` in a thread, and what it tells, for a page to show."""

from __future__ import annotations

import collections
import dataclasses
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
from PIL import Image

from vljepa_jax.app import visitors
from vljepa_jax.app.visitors import Refused
from vljepa_jax.data.ffmpeg import PlayedFrame
from vljepa_jax.data.live_source import LiveSource, SourceError, play
from vljepa_jax.data.records import shown
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.streams.live import LiveSettings, follow
from vljepa_jax.inference.streams.live_events import Events, SourceEvents, StreamSummary
from vljepa_jax.inference.streams.narrator import Said, TimelineRecorder
from vljepa_jax.inference.streams.timeline import Timeline

# What an address may begin with: FFmpeg has protocols that open files of this machine too.
_SCHEMES = ("http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "udp")
_LINES_KEPT, _NOTICES_KEPT = 100, 5
_FRAMES_KEPT = 16  # of a camera, where they come faster than they are taken
_SILENCE = 10.0  # seconds without a frame after which a camera counts as lost
_UNWATCHED = 20.0  # seconds after which nobody looks any more: the tab was closed


class BrowserCamera:
    """Frames that a browser sends, as a source."""

    def __init__(self, silence: float = _SILENCE) -> None:
        """``silence``: seconds without a frame after which it counts as lost."""
        self.source = LiveSource("stdin", "the browser's camera")  # it ends where frames do
        self._silence = silence
        self._frames: queue.Queue[tuple[float, Image.Image]] = queue.Queue(_FRAMES_KEPT)

    def push(self, image: Image.Image) -> None:
        """Takes a frame at the time at which it comes; one too many takes the oldest's place."""
        while True:
            try:
                self._frames.put_nowait((time.monotonic(), image))
                return
            except queue.Full:
                try:
                    self._frames.get_nowait()
                except queue.Empty:
                    continue

    def play(self, source: LiveSource) -> Iterator[PlayedFrame]:
        """As ``live_source.play``.

        Raises:
            SourceError: the camera has fallen silent.
        """
        first = last = None
        while True:
            try:
                now, image = self._frames.get(timeout=self._silence)
            except queue.Empty:
                what = "sends no pictures" if first is None else "is lost: no picture came"
                raise SourceError(
                    f"{source} {what} for {self._silence:.0f} s; is it allowed and recording?"
                ) from None
            image = image.convert("RGB")
            first = now if first is None else first
            begin = now - first
            if last is not None and begin <= last:
                continue
            last = begin
            yield PlayedFrame(begin, begin + 1e-3, lambda image=image: image)


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a visitor wants to be told of a stream.

    Attributes:
        query: X_Q; "" asks for a description.
        labels: to monitor, one a line as in the files of ``launch/stream.py``; () for none.
        least: score of labels whose lines have none; ``None`` takes the model's calibration.
        texts: to choose from in place of a Y-Decoder's; () for none.
        rate: wanted segments per second.
        fast: whether a file is read as fast as it can be.
    """

    query: str = ""
    labels: Sequence[str] = ()
    least: float | None = None
    texts: Sequence[str] = ()
    rate: float = 0.35
    fast: bool = False


class PageEvents(Events):
    """Keeps what is told of a stream, in constant memory."""

    def __init__(self) -> None:
        super().__init__(rich.console.Console(quiet=True), None, None)
        self.status: Mapping[str, Any] = {}
        self.summary: StreamSummary | None = None
        self._lines: collections.deque[Said] = collections.deque(maxlen=_LINES_KEPT)
        self._notices: collections.deque[str] = collections.deque(maxlen=_NOTICES_KEPT)
        self._picture = TimelineRecorder()
        self._kept = threading.Lock()  # the page reads while a stream is followed

    def of(self, source: str, *, named: bool) -> SourceEvents:
        return _PageSourceEvents(self, source)

    def say(self, said: Said) -> None:
        with self._kept:
            self._picture.say(said)
            if said.new:
                self._lines.appendleft(said)

    def tick(self, seconds: float, change: float, frame: np.ndarray) -> None:
        with self._kept:
            self._picture.tick(seconds, change, frame)

    def notice(self, text: str) -> None:
        with self._kept:
            self._notices.append(text)

    def show(self, status: Mapping[str, Any]) -> None:
        self.status = dict(status)

    def finish(self, summary: StreamSummary) -> None:
        self.summary = summary

    def told(self) -> tuple[list[Said], list[str], Timeline]:
        """Lines, latest first; notices, in order; the picture."""
        with self._kept:
            return list(self._lines), list(self._notices), self._picture.timeline()


class _PageSourceEvents(SourceEvents):
    """Hands the events of the one source on."""

    def __init__(self, page: PageEvents, source: str) -> None:
        super().__init__(page, source, "", None)
        self._page = page

    def say(self, said: Said, lag: float, utc: Callable[[float], str | None]) -> dict[str, Any]:
        self._page.say(said)
        return super().say(said, lag, utc)

    def tick(self, seconds: float, change: float, frame: np.ndarray) -> None:
        self._page.tick(seconds, change, frame)

    def notice(self, text: str) -> None:
        self._page.notice(text)


class Watcher:
    """Follows one source for one visitor, until it ends, is stopped, or nobody looks.

    Attributes:
        events: what it tells.
        error: what ended it, if something did.
    """

    def __init__(
        self,
        model: Embedder,
        source: LiveSource | BrowserCamera,
        wish: Wish,
        *,
        unwatched: float = _UNWATCHED,
    ) -> None:
        """Begins at once; ``unwatched``: seconds without ``wait`` after which it ends."""
        self.events = PageEvents()
        self.error: Exception | None = None
        self._model, self._source, self._wish = model, source, wish
        self._stopped, self._over = threading.Event(), threading.Event()
        self._unwatched, self._looked = unwatched, time.monotonic()
        threading.Thread(target=self._run, daemon=True, name="watcher").start()
        threading.Thread(target=self._guard, daemon=True, name="watcher-guard").start()

    def push(self, image: Image.Image) -> None:
        """Takes a frame of the visitor's camera, where that is what is watched."""
        if isinstance(self._source, BrowserCamera):
            self._source.push(image)

    def stop(self) -> None:
        """Asks it to end."""
        self._stopped.set()

    def wait(self, seconds: float) -> bool:
        """Waits for so long, or until it is over; whether it is. Who calls it, watches."""
        self._looked = time.monotonic()
        over = self._over.wait(seconds)
        self._looked = time.monotonic()
        return over

    def _run(self) -> None:
        camera = isinstance(self._source, BrowserCamera)
        wish = self._wish
        try:
            with tempfile.TemporaryDirectory() as folder:
                settings = LiveSettings(
                    query=wish.query or None,
                    rate=wish.rate,
                    fast=wish.fast,
                    labels=_write(folder, "labels", wish.labels),
                    label_threshold=wish.least,
                    texts=_write(folder, "texts", wish.texts),
                )
                follow(
                    self._model,
                    self._source.source if camera else self._source,
                    settings,
                    events=self.events,
                    stopped=self._stopped,
                    player=self._source.play if camera else play,
                )
        except Exception as error:  # raised again where the page shows it
            self.error = error
        finally:
            self._over.set()

    def _guard(self) -> None:
        while not self._over.wait(1.0):
            if time.monotonic() - self._looked > self._unwatched:
                self._stopped.set()
                return


class Watchers:
    """The watchers of a page, one a visitor at most."""

    def __init__(self) -> None:
        self._watchers: dict[str, Watcher] = {}
        self._lock = threading.Lock()

    def start(self, visitor: str, watcher: Watcher) -> None:
        """Begins; what the visitor watched before ends."""
        with self._lock:
            before = self._watchers.pop(visitor, None)
            self._watchers[visitor] = watcher
        if before is not None:
            before.stop()

    def of(self, visitor: str) -> Watcher | None:
        with self._lock:
            return self._watchers.get(visitor)

    def stop(self, visitor: str) -> None:
        """Ends what a visitor watches, if they do."""
        if (watcher := self.of(visitor)) is not None:
            watcher.stop()

    def forget(self, visitor: str, watcher: Watcher) -> None:
        """Drops one that is over."""
        with self._lock:
            if self._watchers.get(visitor) is watcher:
                del self._watchers[visitor]


def address_source(text: str) -> LiveSource:
    """The source at an address that a visitor typed.

    Raises:
        Refused: it is no address of a kind that is followed.
    """
    text = visitors.text_of("the address", text)
    if text.partition("://")[0].lower() not in _SCHEMES or "://" not in text:
        kinds = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        raise Refused(f"'{shown(text)}' is no address of a stream: it begins with {kinds}")
    return LiveSource("network", text)


def _write(folder: str, name: str, lines: Sequence[str]) -> str | None:
    """A file of texts for ``follow`` to read; ``None`` of none."""
    if not lines:
        return None
    path = Path(folder) / f"{name}.txt"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(path)
