"""Events of a followed stream: lines for people, JSON lines for programs, a picture."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import numpy as np
import rich.console
import rich.status
import rich.text

from vljepa_jax.data.records import shown
from vljepa_jax.inference.streams.narrator import Said, TimelineRecorder
from vljepa_jax.inference.streams.timeline import save_timeline

_SHOWN_LABELS = 3
_TOLD_SECONDS = 5.0  # at least so long between two lines about dropped windows


@dataclasses.dataclass(frozen=True)
class StreamSummary:
    """Counts of what was done, for the last line and for programs."""

    seconds: float
    windows: int
    decodings: int
    saved: float  # share of the windows that no text was decoded for
    dropped: int
    reconnections: int
    windows_per_second: float
    median_lag: float  # of the source that is furthest behind
    failed: int = 0  # sources that could not be read, or no longer
    delivered: int = 0  # events, see ``Delivery``
    given_up: int = 0
    lost: int = 0
    held_back: int = 0  # events within the cool-down of another


class Events:
    """Everything that leaves: lines, status, JSON, the picture."""

    def __init__(self, console: rich.console.Console, jsonl: str | None, timeline: str | None):
        """A context manager.

        Args:
            jsonl: file of events, an object a line, to which these are added; ``None`` writes none.
                Each has the time "at" which it was written; the first of a process is "start".
            timeline: picture that ``finish`` draws; ``None`` draws none.
        """
        self._console, self._timeline = console, timeline
        self._recorder = TimelineRecorder() if timeline else None
        self._jsonl = jsonl
        self._file: TextIO | None = None
        self._status: rich.status.Status | None = None
        self._lock = threading.Lock()  # the reader's thread gives notice too

    def __enter__(self) -> Events:
        if self._jsonl:
            self._file = open(self._jsonl, "a+", encoding="utf-8")
            if _ends_inside_a_line(self._file):  # written by a process that was killed
                self._file.write("\n")
            self.write("start")
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._status:
            self._status.stop()
        if self._file:
            with self._lock:
                self._file.close()
                self._file = None

    def of(self, source: str, *, named: bool) -> SourceEvents:
        """The events of one source; ``named``: lines begin with its name, as there are others."""
        return SourceEvents(self, source, f"{source}: " if named else "", self._recorder)

    def notice(self, text: str) -> None:
        self.write("notice", text=text)
        self.print(text, style="yellow")

    def show(self, status: Mapping[str, Any]) -> None:
        if self._status:
            self._status.update(
                f"{clock(status['time'])}  {status['windows_per_second']:.1f} windows/s, "
                f"lag {status['lag']:.2f} s, {status['decodings']} texts for "
                f"{status['windows']} windows, {status['dropped']} dropped"
            )

    def write(self, event: str, **fields: Any) -> dict[str, Any]:
        """Writes an event, where there is a file; gives it."""
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        written = {"event": event, "at": at, **fields}
        with self._lock:
            if self._file:
                self._file.write(json.dumps(written) + "\n")
                self._file.flush()
        return written

    def print(self, text: str, style: str = "") -> None:
        """A line; not wrapped, as it may be read by a program."""
        self._console.print(rich.text.Text(shown(text), style), soft_wrap=True)

    def finish(self, summary: StreamSummary) -> None:
        self.write("summary", **dataclasses.asdict(summary))
        if self._status:
            self._status.stop()
        self.print(
            f"{summary.windows} windows in {summary.seconds:.1f} s "
            f"({summary.windows_per_second:.1f} per second), {summary.decodings} texts decoded: "
            f"{100 * summary.saved:.0f} % of the decodings saved; median lag "
            f"{summary.median_lag:.2f} s, {summary.dropped} windows dropped, "
            f"{summary.reconnections} reconnections"
        )
        if events := summary.delivered + summary.given_up + summary.lost + summary.held_back:
            self.print(
                f"{events} events: {summary.delivered} delivered, {summary.given_up} given up, "
                f"{summary.lost} lost, {summary.held_back} held back by the cool-down"
            )
        if self._recorder:
            save_timeline(self._recorder.timeline(), self._timeline)
            self.print(f"drawn in {self._timeline}")


class SourceEvents:
    """What one source tells, through the ``Events`` of all.

    Attributes:
        unlike: whether what it shows now is nothing that the model was trained on.
    """

    def __init__(
        self, events: Events, source: str, name: str, recorder: TimelineRecorder | None
    ) -> None:
        """``name``: begins its lines; ``recorder``: gathers its picture."""
        self.unlike = False
        self._all, self._source, self._name, self._recorder = events, source, name, recorder
        self._unsaid = 0  # dropped windows not told yet
        self._next_told = 0.0

    def say(self, said: Said, lag: float, utc: Callable[[float], str | None]) -> dict[str, Any]:
        """Tells what was said; gives the fields of its event.

        Args:
            lag: seconds.
            utc: time of day at a second of the stream.
        """
        span = {"start": round(said.start, 3), "end": round(said.end, 3)}
        span |= {"start_utc": utc(said.start), "end_utc": utc(said.end)}
        scores = {name: round(score, 4) for name, score in said.scores.items()}
        how = {"new": said.new, "unlike": self.unlike, "lag": round(lag, 3), "scores": scores}
        fields = self.write("text", **span, text=said.text, **how)
        if self._recorder:
            self._recorder.say(said)
        if said.new:
            best = f"  {said.scores[said.text]:.2f}" if said.text in said.scores else ""
            ranked = [own for own in said.scores.items() if own[0] != said.text]
            nearest = ranked[: _SHOWN_LABELS - bool(best)]
            others = ", ".join(f"{name} {score:.2f}" for name, score in nearest)
            mark = "? " if self.unlike else ""
            line = f"{span_of_time(said.start, said.end)}  {self._name}{mark}{said.text}{best}"
            self._all.print(line + (f"  ({others})" if others else ""))
        return fields

    def tick(self, seconds: float, change: float, frame: np.ndarray) -> None:
        """Takes how far the embedding moved, and a frame of the window, at its time."""
        self.write("tick", time=round(seconds, 3), change=round(change, 4))
        if self._recorder:
            self._recorder.tick(seconds, change, frame)

    def judge(self, unlike: bool) -> None:
        """Takes whether the stream is unlike the training clips; tells when that changes."""
        if unlike != self.unlike:
            self.unlike = unlike
            if unlike:
                self.notice(
                    "this is unlike the clips that the model was trained on: its texts, marked ?, "
                    "mean little"
                )
            else:
                self.notice("this is like the clips that the model was trained on again")

    def dropped(self, lost: int, total: int) -> None:
        """Says so at most once a few seconds."""
        self.write("dropped", windows=lost, total=total)
        self._unsaid += lost
        if time.monotonic() >= self._next_told:
            self.notice(f"too slow for this source: dropped {self._unsaid} windows to stay live")
            self._unsaid, self._next_told = 0, time.monotonic() + _TOLD_SECONDS

    def notice(self, text: str) -> None:
        self.write("notice", text=text)
        self._all.print(self._name + text, style="yellow")

    def write(self, event: str, **fields: Any) -> dict[str, Any]:
        return self._all.write(event, source=self._source, **fields)


def _ends_inside_a_line(file: TextIO) -> bool:
    with open(file.name, "rb") as written:
        written.seek(0, os.SEEK_END)
        if written.tell() == 0:
            return False
        written.seek(-1, os.SEEK_END)
        return written.read(1) != b"\n"


def clock(seconds: float) -> str:
    """ "1:02:03" or "2:03", to the nearest second."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def span_of_time(start: float, end: float) -> str:
    """ "0:02 – 0:05", or "0:02" for what lasts no second, in columns of equal width."""
    first, last = clock(start), clock(end)
    return (first if first == last else f"{first} – {last}").ljust(11)
