"""A thread that follows a source and hands over the windows to embed, newest first to lose."""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

from vljepa_jax.data.ffmpeg import PlayedFrame
from vljepa_jax.data.live_source import (
    LiveSource,
    NoSource,
    RecordedFrame,
    SourceEnded,
    SourceError,
    play,
)
from vljepa_jax.inference.streams.windows import SlidingWindow, Window

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds before a broken source is tried again


@dataclasses.dataclass(frozen=True)
class Arrival:
    """A window and when it was complete.

    Attributes:
        window: as ``SlidingWindow`` gives it; its times go on over reconnections.
        due: ``time.monotonic()`` at which its last frame was, or should have been, there.
        restarted: whether it is the first after a gap: it does not follow the one before.
    """

    window: Window
    due: float
    restarted: bool


class WindowReader:
    """Reads a source in a thread; ``take`` gives what has arrived.

    A source that is followed live never waits: where the windows are not taken in time, the oldest
    are dropped and counted. A recording, in a file or at an address, keeps to its own clock; one
    that is read as fast as it goes waits instead. After a break it goes on where it was.

    Attributes:
        dropped: windows dropped so far.
        frames: frames read so far.
        reconnections: how often the source was opened again.
        fast: whether it is read as fast as it goes.
    """

    def __init__(
        self,
        source: LiveSource,
        sliding: SlidingWindow,
        *,
        fast: bool = False,
        capacity: int = 4,
        notify: Callable[[str], None] = print,
        player: Callable[[LiveSource], Iterator[PlayedFrame]] = play,
        sleep: Callable[[float], bool] | None = None,
        changed: threading.Condition | None = None,
    ) -> None:
        """Starts nothing yet; it is a context manager.

        Args:
            fast: read a recording or standard input as fast as it is taken.
            capacity: windows that wait at most.
            notify: told of breaks and reconnections, from the thread.
            player: opens the source.
            sleep: waits so many seconds; true ends the wait for good. For tests.
            changed: notified when something has arrived or ended; several readers may share it.
        """
        self.dropped = self.frames = self.reconnections = 0
        self._source, self._sliding, self._player = source, sliding, player
        self.fast = fast
        self._recorded = source.kind == "file"  # of an address its frames tell
        self._capacity, self._notify = capacity, notify
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._changed = changed or threading.Condition()
        self._waiting: collections.deque[Arrival] = collections.deque()
        self._over = self._ended = False  # the source has no more; nor has this
        self._error: Exception | None = None
        self._restarted = True
        self._offset = 0.0  # of the source's clock, after reconnections
        self._reached = 0.0  # seconds of the stream
        self._thread = threading.Thread(target=self._run, daemon=True, name="window-reader")

    def __enter__(self) -> WindowReader:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(timeout=1.0)  # it may hang in a read; it is a daemon

    @property
    def ready(self) -> bool:
        """Whether ``take`` has something to give, or to raise, at once."""
        return bool(self._waiting) or self._ended

    def take(self, timeout: float, limit: int) -> list[Arrival] | None:
        """The windows that have arrived, ``limit`` at most; ``None`` after the end.

        Args:
            timeout: seconds to wait for one; an empty list if none came.

        Raises:
            SourceError, ClipError: the source cannot be read, and does not come back.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout)
            taken = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
            self._changed.notify_all()
            if not taken and self._ended:
                if self._error is not None:
                    raise self._error
                return None
            return taken

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        began = time.monotonic()
        try:
            while not self._stop.is_set():
                before = self.frames
                try:
                    self._follow()
                    if self._over or not self._source.reconnects:
                        break
                    reason = "ended"
                except SourceError as error:
                    if not self._source.reconnects or isinstance(error, NoSource):
                        raise
                    reason = str(error)
                if self._stop.is_set():
                    break
                pause = _FIRST_PAUSE if self.frames > before else pause
                self._notify(f"source lost ({reason}); trying again in {pause:.0f} s")
                if self._sleep(pause):
                    break
                pause = min(2 * pause, _LONGEST_PAUSE)
                self.reconnections += 1
                if self._recorded:
                    continue
                # The gap is part of the stream's time.
                self._offset = max(self._reached, time.monotonic() - began)
                self._sliding.restart()
                self._restarted = True
        except Exception as error:  # shown where the windows are taken
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _follow(self) -> None:
        """Plays the source once, from its opening to its end."""
        began, end = None, max(self._offset, self._reached)
        for frame in self._until_its_end():
            if self._stop.is_set():
                return
            if isinstance(frame, RecordedFrame):
                self._recorded, self._offset = True, 0.0  # its own clock, whenever it came
                if frame.begin < self._reached:  # had before the source broke
                    continue
            elif self.fast and self._source.reconnects:
                self.fast = False
                self._notify("--fast is for recordings: this source is followed as it comes")
            began = time.monotonic() - frame.begin if began is None else began
            if self._recorded and not self.fast:
                late = began + frame.begin - time.monotonic()
                if late > 0 and self._sleep(late):
                    return
            self.frames += 1
            end = self._reached = self._offset + frame.end
            for window in self._sliding.push(self._offset + frame.begin, frame.image):
                self._give(window, began)
        for window in self._sliding.finish(end):
            self._give(window, began)

    def _until_its_end(self) -> Iterator[PlayedFrame]:
        """The source's frames; a recording's end is remembered, as nothing comes after it."""
        try:
            yield from self._player(self._source)
        except SourceEnded:
            self._over = True

    def _give(self, window: Window, began: float) -> None:
        # A recording has a clock to keep to; what comes live is due when it comes.
        due = time.monotonic()
        if self._recorded and not self.fast:
            due = min(due, began + window.end)
        with self._changed:
            if self.fast:
                self._changed.wait_for(
                    lambda: len(self._waiting) < self._capacity or self._stop.is_set()
                )
            elif len(self._waiting) == self._capacity:
                lost = self._waiting.popleft()
                self.dropped += 1
                if lost.restarted and self._waiting:
                    self._waiting[0] = dataclasses.replace(self._waiting[0], restarted=True)
                elif lost.restarted:
                    self._restarted = True
            self._waiting.append(Arrival(window, due, self._restarted))
            self._restarted = False
            self._changed.notify_all()
