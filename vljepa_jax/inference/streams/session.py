"""The loop that follows sources: takes their windows, embeds them together, says what there is."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vljepa_jax.data.live_source import SourceError
from vljepa_jax.data.records import ClipError
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.streams.alarms import Alarms
from vljepa_jax.inference.streams.live_events import Events, SourceEvents, StreamSummary
from vljepa_jax.inference.streams.narrator import Familiarity, Narrator, Said
from vljepa_jax.inference.streams.queries import Queries
from vljepa_jax.inference.streams.window_reader import Arrival, WindowReader

_POLL = 0.2  # seconds between looks at the query and for Ctrl-C
_STATUS_SECONDS = 10.0  # between status events


class Followed:
    """One source: what reads it, what narrates it, and where it stands.

    Attributes:
        reader, narrator, events: its own.
        lags: seconds from when a window was due to when it was told of.
    """

    def __init__(
        self,
        reader: WindowReader,
        narrator: Narrator,
        events: SourceEvents,
        alarms: Alarms | None,
    ) -> None:
        """``alarms``: considers what is said; ``None`` where nobody waits for events."""
        self.reader, self.narrator, self.events = reader, narrator, events
        self.lags = _Recent(256)
        self._alarms = alarms
        self._familiarity = Familiarity()
        self._dropped = 0
        self._reached = 0.0
        self._epoch = 0.0  # time of day at second 0 of the stream

    def feed(self, arrival: Arrival, embedding: np.ndarray, novelty: float) -> None:
        """Takes the embedding of its next window."""
        if arrival.restarted:
            self.restart()
        window = arrival.window
        self._epoch = time.time() - time.monotonic() + arrival.due - window.end
        self.events.judge(self._familiarity.feed(novelty))
        for said in self.narrator.feed(window.end, embedding):
            self._say(said)
        self.lags.add(time.monotonic() - arrival.due)
        self._reached = window.end
        middle = window.clip[len(window.clip) // 2]
        self.events.tick(self.narrator.time, self.narrator.change, middle)

    def restart(self) -> None:
        """Says what is open; what comes next does not follow it."""
        said = self.narrator.restart()
        if said is not None:
            self._say(said)

    def tell(self) -> dict[str, Any]:
        """Tells of dropped windows; gives its status."""
        if self.reader.dropped > self._dropped:
            self.events.dropped(self.reader.dropped - self._dropped, self.reader.dropped)
            self._dropped = self.reader.dropped
        return {
            "time": round(self._reached, 3),
            "windows": self.narrator.windows,
            "decodings": self.narrator.decoded,
            "lag": round(self.lags.last(), 3),
            "dropped": self.reader.dropped,
        }

    def _say(self, said: Said) -> None:
        fields = self.events.say(said, self.lags.last(), self._utc)
        if self._alarms is not None:
            self._alarms.consider(said, self.events.unlike, fields)

    def _utc(self, seconds: float) -> str | None:
        """Time of day at a second of the stream; ``None`` for a recording that is read fast."""
        if self.reader.fast:
            return None
        at = datetime.datetime.fromtimestamp(self._epoch + seconds, datetime.UTC)
        return at.isoformat(timespec="milliseconds")


class Session:
    """Several sources and one model."""

    def __init__(
        self,
        model: Embedder,
        sources: Sequence[Followed],
        events: Events,
        queries: Queries,
        changed: threading.Condition,
        batch: int,
    ) -> None:
        """See ``run``.

        Args:
            changed: notified by all readers.
            batch: windows embedded at once.
        """
        self._model, self._sources, self._events = model, sources, events
        self._queries, self._changed, self._batch = queries, changed, batch
        self._open = list(sources)
        self._failures: list[Exception] = []
        self._began = time.monotonic()
        self._next_status = self._began + _STATUS_SECONDS

    def run(self, stopped: threading.Event) -> None:
        """Follows all sources until each has ended, or until ``stopped``.

        One that cannot be read is told of; the others go on.

        Raises:
            SourceError, ClipError: none of them can be read.
        """
        while self._open and not stopped.is_set():
            taken = self._take()
            if self._queries.changed():
                for source in self._open:
                    source.restart()  # other queries' embeddings do not compare
                self._events.write("query", query=self._queries.query)
                self._events.notice(f"query: {self._queries.query}")
            if taken:
                clips = np.stack([arrival.window.clip for _, arrival in taken])
                queries = [self._queries.query] * len(clips)
                embedded = self._model.predict_and_judge(clips, queries)
                for (source, arrival), embedding, new in zip(taken, *embedded, strict=True):
                    source.feed(arrival, embedding, float(new))
            self._tell()
        for source in self._open:
            source.restart()
        if len(self._failures) == len(self._sources):
            raise self._failures[-1]

    def finish(self, more: Mapping[str, int]) -> StreamSummary:
        """Gives and tells the counts of all sources; ``more``: those of events."""
        seconds = time.monotonic() - self._began
        total = self._totals([source.tell() for source in self._sources])
        windows, decodings = total["windows"], total["decodings"]
        summary = StreamSummary(
            seconds=seconds,
            windows=windows,
            decodings=decodings,
            saved=1 - decodings / windows if windows else 0.0,
            dropped=total["dropped"],
            reconnections=sum(source.reader.reconnections for source in self._sources),
            windows_per_second=windows / seconds,
            median_lag=max(source.lags.median() for source in self._sources),
            failed=len(self._failures),
            **more,
        )
        self._events.finish(summary)
        return summary

    def _take(self) -> list[tuple[Followed, Arrival]]:
        """What has arrived, at most a batch, shared out evenly among the sources."""
        with self._changed:
            self._changed.wait_for(lambda: any(s.reader.ready for s in self._open), _POLL)
        own = max(1, self._batch // len(self._open))
        taken: list[tuple[Followed, Arrival]] = []
        for source in self._open[: self._batch]:
            try:
                arrivals = source.reader.take(0.0, own)
            except (SourceError, ClipError) as error:
                self._failures.append(error)
                if len(self._sources) > 1:
                    source.events.notice(f"is followed no longer: {error}")
                arrivals = None
            if arrivals is None:
                source.restart()
                self._open.remove(source)
            else:
                taken += [(source, arrival) for arrival in arrivals]
        self._open = self._open[1:] + self._open[:1]  # each comes first in its turn
        return taken

    def _tell(self) -> None:
        status = [source.tell() for source in self._sources]
        self._events.show(self._totals(status))
        if time.monotonic() >= self._next_status:
            seconds = time.monotonic() - self._began
            for source, own in zip(self._sources, status, strict=True):
                source.events.write(
                    "status", **own, windows_per_second=round(own["windows"] / seconds, 2)
                )
            self._next_status += _STATUS_SECONDS

    def _totals(self, status: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        total = {
            key: sum(own[key] for own in status) for key in ("windows", "decodings", "dropped")
        }
        latest = {key: max(own[key] for own in status) for key in ("time", "lag")}
        rate = total["windows"] / (time.monotonic() - self._began)
        return {**total, **latest, "windows_per_second": round(rate, 2)}


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
