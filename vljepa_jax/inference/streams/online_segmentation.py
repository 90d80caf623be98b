"""Online segmentation: a causal average and a threshold on the local variance (paper §2, §4.6).

Each decision depends on what has been seen so far alone, and the memory is constant.
"""

from __future__ import annotations

import collections
import dataclasses
import math

import numpy as np
from jaxtyping import Float

from vljepa_jax.inference.streams.segmentation import unit

_GAIN = 0.3  # of the controller: how much one segment more than wanted raises the log-threshold
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

    The embeddings are averaged over the last ``smoothing`` ticks. When the variance of the last
    ``window`` averages of the open segment, the mean squared distance from their mean, exceeds
    the threshold, the meaning has changed: the segment ends at the split of the window that
    leaves the least variance on both sides, and what follows the split opens the next.

    Instead of a threshold, a target rate can be given. The log-threshold then falls steadily and
    rises with each segment, so that both balance at that rate (a quantile tracker: with E errors
    of ``1 - rate`` and ``-rate`` a tick, their sum stays bounded). It begins at the first
    variance that is not zero.

    Attributes:
        threshold: the present one; ``None`` before there is any.
        variance: at the last tick; 0 where fewer than two averages are there.
        tick: number of ticks seen.
        start: first tick of the open segment.
    """

    def __init__(
        self,
        *,
        smoothing: int,
        window: int,
        threshold: float | None = None,
        rate: float | None = None,
    ) -> None:
        """Gives either a threshold or a rate.

        Args:
            smoothing: ticks averaged; 1 does not.
            window: ticks of the variance, at least 2.
            threshold: on the variance.
            rate: wanted segments per tick, in (0, 1).

        Raises:
            ValueError: a value is out of range, or not one of threshold and rate is given.
        """
        if smoothing < 1 or window < 2:
            raise ValueError(
                f"smoothing = {smoothing} and window = {window} ticks: at least 1 and 2 are needed"
            )
        if (threshold is None) == (rate is None):
            raise ValueError("give either a threshold or a rate")
        if threshold is not None and not threshold >= 0:
            raise ValueError(f"threshold = {threshold}: a variance is not negative")
        if rate is not None and not 0 < rate < 1:
            raise ValueError(f"rate = {rate} segments per tick: it must lie between 0 and 1")
        self.threshold = threshold
        self.variance = 0.0
        self.tick = 0
        self.start = 0
        self._rate = rate
        self._latest: collections.deque[np.ndarray] = collections.deque(maxlen=smoothing)
        # The last ticks of the open segment, and their averages.
        self._raw: collections.deque[np.ndarray] = collections.deque(maxlen=window)
        self._smooth: collections.deque[np.ndarray] = collections.deque(maxlen=window)
        self._sum: np.ndarray | None = None  # of the open segment
        self._kept: list[tuple[int, np.ndarray]] = []  # every ``_stride``-th of it
        self._stride = 1

    def update(self, embedding: Float[np.ndarray, " e"]) -> Change | None:
        """Takes the next tick; gives the segment that it ended, if it did."""
        embedding = np.asarray(embedding, np.float32)
        self._latest.append(embedding)
        self._raw.append(embedding)
        self._smooth.append(np.mean(self._latest, axis=0, dtype=np.float64))
        self._sum = embedding.astype(np.float64) if self._sum is None else self._sum + embedding
        self._keep(self.tick, embedding)
        self.tick += 1
        averages = np.stack(self._smooth)
        self.variance = float(averages.var(axis=0).sum())
        changed = self.threshold is not None and self.variance > self.threshold
        self._control(changed)
        if not changed:
            return None
        return self._end(self.tick - len(averages) + _best_split(averages), averages)

    def so_far(self) -> Change | None:
        """The open segment as if it ended now; ``None`` before the first tick."""
        if self._sum is None:
            return None
        return self._change(self.tick, self._sum)

    def _end(self, end: int, averages: np.ndarray) -> Change | None:
        raw = list(self._raw)
        following = raw[len(raw) - (self.tick - end) :]
        rest = np.sum(following, axis=0, dtype=np.float64)
        change = self._change(end, self._sum - rest)
        self.start, self._sum = end, rest
        self._stride, self._kept = 1, list(enumerate(following, end))
        self._raw.clear()
        self._raw.extend(following)
        self._smooth.clear()
        self._smooth.extend(averages[len(raw) - len(following) :])
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
            self.threshold = self.variance or None
        else:
            self.threshold *= math.exp(_GAIN * (changed - self._rate))


def _best_split(averages: np.ndarray) -> int:
    """How many averages go to the left, so that least variance is left: Ward's cost at its most."""
    count = np.arange(1, len(averages))
    sums = np.cumsum(averages, axis=0)
    left = sums[:-1] / count[:, None]
    right = (sums[-1] - sums[:-1]) / (len(averages) - count)[:, None]
    gains = count * (len(averages) - count) * ((left - right) ** 2).sum(axis=1)
    return int(count[np.argmax(gains)])
