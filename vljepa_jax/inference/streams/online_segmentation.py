"""Online segmentation: a change of the mean, found by a generalised likelihood ratio.

Each decision depends on what has been seen so far alone, and the memory is constant. The paper
(§2) smooths the embeddings and thresholds their local variance; docs/streaming.md compares both.
"""

from __future__ import annotations

import collections
import dataclasses
import math

import numpy as np
from jaxtyping import Float

from vljepa_jax.inference.streams.segmentation import unit

_GAIN = 0.3  # of the controller: how much one segment more than wanted raises the log-threshold
_ROUNDING = 1e-12  # gains up to here are what rounding makes of equal embeddings
_KEPT = 256  # embeddings of an open segment kept to find its midpoint; a longer one is thinned out


@dataclasses.dataclass(frozen=True)
class Change:
    """A segment that has ended, as the decision found it.

    Attributes:
        start, end: ticks of the segment, [start, end).
        decided: the tick whose embedding ended it; at least ``end``, save for the stream's last.
        exact: [E] embedding at the midpoint (of segments of more than some hundred ticks, near it).
        averaged: [E] mean of the segment, L2-normalised.
    """

    start: int
    end: int
    decided: int
    exact: np.ndarray
    averaged: np.ndarray


class OnlineSegmenter:
    """Cuts a stream of embeddings, one tick at a time.

    At each tick, every split among the last ``window`` ticks of the open segment is weighed by what
    it takes off the sum of squared distances from the means,
    |l| |r| / (|l| + |r|) · ‖mean(l) − mean(r)‖², where l is all of the segment before the split and
    r what follows: the cost at which Ward's tree (``segmentation.py``) would merge them. Under
    Gaussian noise that is, but for a factor, the log-likelihood ratio of a change of the mean,
    maximised over both means and, by the choice of the best split, over its time: CUSUM with a
    generalised likelihood ratio (Siegmund and Venkatraman 1995). If the best split is at least
    ``delay`` ticks old and its gain exceeds the threshold, the segment ends there and what follows
    opens the next. While a change is under way the best split moves along with it; the delay lets
    it come to rest.

    Instead of a threshold, a target rate can be given. The log-threshold then falls steadily and
    rises with each segment, so that both balance at that rate (a quantile tracker: with E errors
    of ``1 - rate`` and ``-rate`` a tick, their sum stays bounded). It begins at the first
    gain that is not zero. With ``ahead`` the rate is kept from the beginning, when the threshold
    has not settled: a segment that would be one too many goes on.

    Attributes:
        threshold: the present one; ``None`` before there is any.
        gain: of the best split at the last tick; 0 while that is younger than the delay.
        tick: number of ticks seen.
        window: see the constructor; no segment that ``update`` gives has ended earlier.
        start: first tick of the open segment.
    """

    def __init__(
        self,
        *,
        window: int,
        delay: int,
        threshold: float | None = None,
        rate: float | None = None,
        ahead: float | None = None,
    ) -> None:
        """Gives either a threshold or a rate.

        Args:
            window: ticks among which a split is looked for, no fewer than ``delay``.
            delay: ticks that a split must be old, at least 1.
            threshold: on the gain.
            rate: wanted segments per tick, in (0, 1).
            ahead: by how many segments the number of all may exceed the rate; ``None`` for any.

        Raises:
            ValueError: a value is out of range, or not one of threshold and rate is given.
        """
        if not 1 <= delay <= window:
            raise ValueError(
                f"window = {window} and delay = {delay} ticks: a window of at least the delay, and "
                "a delay of at least 1 are needed"
            )
        if (threshold is None) == (rate is None):
            raise ValueError("give either a threshold or a rate")
        if threshold is not None and not threshold >= 0:
            raise ValueError(f"threshold = {threshold}: a gain is not negative")
        if rate is not None and not 0 < rate < 1:
            raise ValueError(f"rate = {rate} segments per tick: it must lie between 0 and 1")
        self.threshold = threshold
        self.gain = 0.0
        self.tick = 0
        self.start = 0
        self._rate = rate
        self._ahead = math.inf if ahead is None else ahead
        self._ended = 0  # segments
        self._delay = delay
        self.window = window
        self._latest: collections.deque[np.ndarray] = collections.deque(maxlen=window)
        self._sum: np.ndarray | None = None  # of the open segment
        self._kept: list[tuple[int, np.ndarray]] = []  # every ``_stride``-th of it
        self._stride = 1

    def update(self, embedding: Float[np.ndarray, " e"]) -> Change | None:
        """Takes the next tick; gives the segment that it ended, if it did."""
        embedding = np.asarray(embedding, np.float32)
        self._latest.append(embedding)
        self._sum = embedding.astype(np.float64) if self._sum is None else self._sum + embedding
        self._keep(self.tick, embedding)
        self.tick += 1
        split, self.gain = self._best_split()
        changed = self.threshold is not None and self.gain > self.threshold
        self._control(changed)
        if not changed:
            return None
        if self._rate is not None and self._ended + 1 > self._rate * self.tick + self._ahead:
            return None
        self._ended += 1
        return self._end(split)

    def so_far(self) -> Change | None:
        """The open segment as if it ended now; ``None`` before the first tick."""
        if self._sum is None:
            return None
        return self._change(self.tick, self._sum)

    def _best_split(self) -> tuple[int, float]:
        """The tick before which the open segment should end, and the gain, 0 if that is young."""
        length = self.tick - self.start
        right = np.arange(1, min(len(self._latest), length - 1) + 1)
        if not len(right):
            return self.tick, 0.0
        left = length - right
        after = np.cumsum(np.array(self._latest, np.float64)[: -len(right) - 1 : -1], axis=0)
        apart = (self._sum - after) / left[:, None] - after / right[:, None]
        gains = left * right / length * (apart**2).sum(axis=1)
        best = int(np.argmax(gains))
        settled = right[best] >= self._delay and gains[best] > _ROUNDING
        return self.tick - int(right[best]), float(gains[best]) if settled else 0.0

    def _end(self, end: int) -> Change:
        following = list(self._latest)[end - self.tick :]
        rest = np.sum(following, axis=0, dtype=np.float64)
        change = self._change(end, self._sum - rest)
        self.start, self._sum = end, rest
        self._stride, self._kept = 1, list(enumerate(following, end))
        self._latest.clear()
        self._latest.extend(following)
        return change

    def _change(self, end: int, total: np.ndarray) -> Change:
        middle = (self.start + end - 1) // 2
        _, exact = min(self._kept, key=lambda kept: (abs(kept[0] - middle), kept[0]))
        return Change(self.start, end, self.tick - 1, exact, unit(total / (end - self.start)))

    def _keep(self, tick: int, embedding: np.ndarray) -> None:
        if (tick - self.start) % self._stride == 0:
            self._kept.append((tick, embedding))
        if len(self._kept) > _KEPT:
            self._stride *= 2
            self._kept = self._kept[::2]

    def _control(self, changed: bool) -> None:
        if self._rate is None:
            return
        if self.threshold is None:
            self.threshold = self.gain or None
        else:
            self.threshold *= math.exp(_GAIN * (changed - self._rate))
