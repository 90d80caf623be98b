"""When to speak: a stream of embeddings Ŝ_Y cut into segments of one meaning (paper §2, §4.6).

Three ways to choose the moments at which a stream is decoded into text:

- uniform: segments of equal length, the baseline;
- offline: temporally connected agglomerative clustering with Ward linkage. One tree, built once,
  serves every number of segments;
- online (``online_segmentation.py``): a causal test for a change of the mean, by Ward's cost too.

A segment is a half-open range of ticks [start, end). It is decoded at its midpoint, from the
embedding of that tick ("exact"), from the mean of the segment's embeddings ("averaged"), or from
the embedding of the clip that the segment is ("clip", ours). All of this is plain numpy.
"""

from __future__ import annotations

import dataclasses
import heapq

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class SegmentTree:
    """The merges of a stream's n ticks, first to last, from n segments of one tick to one.

    Attributes:
        cuts: [n - 1] ticks before which a segment begins, in the order in which merging removed
            them: the last ``count - 1`` of them cut the stream into ``count`` segments.
        costs: [n - 1] what each merge added to the sum of squared distances from the segments'
            means. With merges between neighbours alone they need not ascend.
    """

    cuts: Int[np.ndarray, " n-1"]
    costs: Float[np.ndarray, " n-1"]

    @property
    def ticks(self) -> int:
        """Number of ticks n."""
        return len(self.cuts) + 1

    def segments(self, count: int) -> Int[np.ndarray, "count 2"]:
        """The stream in ``count`` segments, [start, end) each, in order.

        Raises:
            ValueError: there are not so many ticks.
        """
        _check_count(count, self.ticks)
        starts = np.sort(self.cuts[self.ticks - count :])
        return _between(np.concatenate([[0], starts, [self.ticks]]))


def ward_tree(embeddings: Float[np.ndarray, "n e"]) -> SegmentTree:
    """Merges neighbouring segments, always the pair that costs least (paper §4.6).

    Cost is Ward's: what the merge adds to the sum of squared distances from the segments' means,
    |a| |b| / (|a| + |b|) · ‖mean(a) − mean(b)‖². The result is that of scikit-learn's
    ``AgglomerativeClustering(linkage="ward")`` with the chain of ticks as connectivity, for every
    number of clusters, ties included: of equal costs, the pair whose newer segment was made first
    goes first, then the pair whose older one was.

    A heap of candidate merges and a linked list of segments: O(n log n · e) time, and memory for
    one copy of the embeddings in float64.

    Raises:
        ValueError: no embeddings, or some that are not finite.
    """
    sums = np.array(embeddings, np.float64)  # of segments, each at its first tick
    if sums.ndim != 2 or not len(sums):
        raise ValueError(f"embeddings must be [n, e] with n > 0, got {list(sums.shape)}")
    if not np.isfinite(sums).all():
        raise ValueError("embeddings must be finite")
    n = len(sums)
    # Segments have an id each, in the order in which they are made: ticks, then merges.
    first = list(range(n)) + [0] * (n - 1)  # first tick by id
    size = [1.0] * n + [0.0] * (n - 1)
    before = [-1, *range(n - 1)] + [-1] * (n - 1)  # ids of the neighbours in time, -1 at the ends
    after = [*range(1, n), -1] + [-1] * (n - 1)
    alive = bytearray(b"\1" * (2 * n - 1))

    def cost(a: int, b: int) -> float:
        gap = sums[first[a]] / size[a] - sums[first[b]] / size[b]
        return float(gap @ gap) * (size[a] * size[b] / (size[a] + size[b]))

    heap = [(cost(tick, tick - 1), tick, tick - 1) for tick in range(1, n)]  # (cost, newer, older)
    heapq.heapify(heap)
    cuts, costs = np.empty(n - 1, int), np.empty(n - 1)
    for step in range(n - 1):
        while True:
            least, a, b = heapq.heappop(heap)
            if alive[a] and alive[b]:
                break
        if first[a] > first[b]:
            a, b = b, a
        merged = n + step
        cuts[step], costs[step] = first[b], least
        sums[first[a]] += sums[first[b]]
        first[merged], size[merged] = first[a], size[a] + size[b]
        alive[a] = alive[b] = 0
        before[merged], after[merged] = before[a], after[b]
        for neighbour, back in ((before[a], after), (after[b], before)):
            if neighbour >= 0:
                back[neighbour] = merged
                heapq.heappush(heap, (cost(merged, neighbour), merged, neighbour))
    return SegmentTree(cuts, costs)


def uniform_segments(ticks: int, count: int) -> Int[np.ndarray, "count 2"]:
    """A stream of ``ticks`` in ``count`` segments as equal as whole ticks allow.

    Raises:
        ValueError: there are not so many ticks.
    """
    _check_count(count, ticks)
    return _between(np.arange(count + 1) * ticks // count)


def midpoints(segments: Int[np.ndarray, "count 2"]) -> Int[np.ndarray, " count"]:
    """The tick in the middle of each segment, the earlier of two."""
    return (segments[:, 0] + segments[:, 1] - 1) // 2


def segment_embeddings(
    embeddings: Float[np.ndarray, "n e"],
    segments: Int[np.ndarray, "count 2"],
    *,
    averaged: bool,
) -> Float[np.ndarray, "count e"]:
    """The embedding that is decoded of each segment, L2-normalised.

    Args:
        embeddings: of the stream, L2-normalised.
        averaged: the mean of the segment's embeddings; else that of its midpoint.
    """
    if not averaged:
        return embeddings[midpoints(segments)]
    sums = np.add.reduceat(embeddings, segments[:, 0], axis=0, dtype=np.float64)
    return unit(sums / (segments[:, 1] - segments[:, 0])[:, None])


def segment_spans(
    times: Float[np.ndarray, " n"],
    segments: Int[np.ndarray, "count 2"],
    *,
    tick: float,
    shortest: float,
) -> Float[np.ndarray, "count 2"]:
    """The seconds [begin, end) of each segment's own clip.

    Args:
        times: middles of the ticks' windows.
        tick: seconds from one to the next; a segment reaches half of that beyond its outer ticks.
        shortest: seconds; a shorter segment is widened to this length about its middle.
    """
    middles = (times[segments[:, 0]] + times[segments[:, 1] - 1]) / 2
    half = np.maximum((segments[:, 1] - segments[:, 0]) * tick, shortest) / 2
    return np.stack([middles - half, middles + half], axis=1)


def unit(vectors: Float[np.ndarray, "... e"]) -> Float[np.ndarray, "... e"]:
    """Vectors scaled to length one, float32; a vector of zeros stays one."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0).astype(np.float32)


def _between(bounds: np.ndarray) -> np.ndarray:
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


def _check_count(count: int, ticks: int) -> None:
    if not 1 <= count <= ticks:
        raise ValueError(f"{count} segments of {ticks} ticks: there can be 1 to {ticks}")
