"""Which source, and which of its records, stands at each place of the training data.

The order is a pure function of (seed, global index), in the memory of a few numbers a source.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
from collections.abc import Iterator, Sequence

import grain
import numpy as np

# Boundaries of sources, and offsets of batches, are integers modulo this.
_UNIT = 1 << 40
# The offset moves on by the golden ratio a batch, so that any number of batches that follow each
# other have offsets spread evenly. Odd, so that all offsets come before one comes again.
_STEP = int(_UNIT * 0.6180339887498949) | 1

_FIRST = _UNIT // 2  # the first batch's: not where rounded boundaries fall


@dataclasses.dataclass(frozen=True)
class MixedSource:
    """A source as the mixture sees it.

    Attributes:
        records: number of its records.
        weight: share of the rows, relative to the other sources.
        limit: of these records, so many are used, drawn once by the seed; 0 for all.
    """

    records: int
    weight: float
    limit: int = 0

    @property
    def used(self) -> int:
        """The number of records that are used."""
        return min(self.limit, self.records) if self.limit else self.records


class Mixture:
    """Global index -> (source, record of the source).

    Every batch has within one row of its share of each source: laid side by side, the shares of the
    sources are cut at equal distances, one cut a row, the first at the batch's offset (systematic
    sampling). Over many batches the shares are exact. A source's records are shuffled anew in every
    epoch, each of them once, by Grain's index shuffle.

    Attributes:
        sources: as given.

    Args:
        sources: with a record each, at least.
        batch_size: rows of the global batch.
        seed: draws the orders and the records that a limit leaves.
    """

    def __init__(self, sources: Sequence[MixedSource], batch_size: int, seed: int):
        self.sources = tuple(sources)
        self._batch_size = batch_size
        total, reached, self._ends = sum(source.weight for source in sources), 0.0, []
        for source in sources:
            reached += source.weight
            self._ends.append(round(reached / total * _UNIT) * batch_size)
        self._ends[-1] = _UNIT * batch_size
        # Rows of a source are not neighbours: a process, or a device, holds rows of all of them.
        self._stride = _coprime(batch_size)
        seeds = np.random.SeedSequence(seed).generate_state(2 * len(sources))
        shuffled = [
            grain.MapDataset.range(source.used).shuffle(seed=int(own)).repeat()
            for source, own in zip(sources, seeds, strict=False)
        ]
        chosen = [
            grain.MapDataset.range(source.records).shuffle(seed=int(own)) if source.limit else None
            for source, own in zip(sources, seeds[len(sources) :], strict=True)
        ]
        self._orders = list(zip(shuffled, chosen, strict=True))

    def __getitem__(self, index: int) -> tuple[int, int]:
        source, place = self._place(index)
        return source, self._record(source, self._orders[source][0][place])

    def any_record(self, source: int, rng: np.random.Generator) -> int:
        """A record of a source, drawn among those that are used."""
        return self._record(source, rng.integers(self.sources[source].used))

    def used(self, source: int) -> Iterator[int]:
        """The records of a source that are used, each once, in no order."""
        return (self._record(source, place) for place in range(self.sources[source].used))

    def _record(self, source: int, used: int) -> int:
        chosen = self._orders[source][1]
        return int(used if chosen is None else chosen[int(used)])

    def rows(self, step: int) -> list[int]:
        """Of each source the rows in the batches of the first ``step`` steps."""
        if len(self._ends) == 1:
            return [step * self._batch_size]
        return [last - first for first, last in zip(*self._before(step), strict=True)]

    def _place(self, index: int) -> tuple[int, int]:
        """The source of a row, and how many of its rows come before."""
        if len(self._ends) == 1:
            return 0, index
        batch, row = divmod(index, self._batch_size)
        row = row * self._stride % self._batch_size
        source = bisect.bisect_right(self._ends, row * _UNIT + _offset(batch))
        starts, ends = self._before(batch)
        inside = row - (_cuts(self._ends[source - 1], batch) if source else 0)
        return source, ends[source] - starts[source] + inside

    @functools.lru_cache(maxsize=64)  # noqa: B019 (it lives as long as the process)
    def _before(self, batch: int) -> tuple[list[int], list[int]]:
        """The rows before each source's first boundary, and before its second, in all batches
        before this one."""
        ends = [_cuts_before(end, batch) for end in self._ends]
        return [0, *ends[:-1]], ends


def _offset(batch: int) -> int:
    return (_FIRST + batch * _STEP) % _UNIT


def _cuts(end: int, batch: int) -> int:
    """The rows k of a batch with k * _UNIT + offset < end."""
    return max(0, -((_offset(batch) - end) // _UNIT))


def _cuts_before(end: int, batches: int) -> int:
    """The sum of ``_cuts`` over the first batches.

    ``_cuts`` is end // _UNIT, and one more where the offset is below the remainder r: x mod m < r
    where floor(x / m) - floor((x - r) / m) is 1.
    """
    whole, rest = divmod(end, _UNIT)
    above = _floor_sum(batches, _STEP, _FIRST + _UNIT - rest)
    return (whole + 1) * batches + _floor_sum(batches, _STEP, _FIRST) - above


def _floor_sum(n: int, a: int, b: int) -> int:
    """The sum of (a * i + b) // _UNIT for i in range(n), as Euclid's algorithm finds it."""
    total, m = 0, _UNIT
    while True:
        total += n * (n - 1) // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        reached = a * n + b
        if reached < m:
            return total
        n, b, m, a = reached // m, reached % m, a, m


def _coprime(count: int) -> int:
    """A number near the golden part of ``count`` that has no divisor in common with it."""
    near = max(1, round(count * 0.6180339887498949))
    return next(number for number in range(near, count + near + 1) if np.gcd(number, count) == 1)
