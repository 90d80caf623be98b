"""Examples and (clip, query) pairs as arrays: a hundred thousand of them without an object each.

An ``Example``, a ``ClipRef`` or a query's text is made when it is asked for. What benchmarks share,
say lists of candidates, is kept once.
"""

from __future__ import annotations

import array
import bisect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TypeVar, overload

import numpy as np
from jaxtyping import Bool, Int

from vljepa_jax.data.token_cache import ClipKey
from vljepa_jax.evals.examples import ClipRef, Example

_STRINGS = np.dtypes.StringDType()  # of any length, none of them a Python object
_AT_ONCE = 4096  # texts that are objects until they are packed

Pair = tuple[ClipRef, str]  # X_V and X_Q
_Kind = TypeVar("_Kind", bound=tuple)
_Numbers = TypeVar("_Numbers", int, np.ndarray)


class _Texts:
    """Takes texts one by one and packs them."""

    def __init__(self) -> None:
        self._packed: list[np.ndarray] = []
        self._waiting: list[str] = []

    def append(self, text: str) -> None:
        self._waiting.append(text)
        if len(self._waiting) == _AT_ONCE:
            self._pack()

    def packed(self) -> np.ndarray:
        """All of them, [n]."""
        self._pack()
        return np.concatenate(self._packed)

    def _pack(self) -> None:
        self._packed.append(np.array(self._waiting, _STRINGS))
        self._waiting = []


class Examples(Sequence[Example]):
    """The examples of one benchmark, in order; a slice is packed, too."""

    def __init__(
        self,
        kept: tuple[list[tuple[str, str, tuple[int, ...]]], list[tuple[tuple[str, ...], ...]]],
        numbers: Int[np.ndarray, "n 4"],
        queries: np.ndarray,
        others: np.ndarray,
    ) -> None:
        """What ``pack`` makes.

        Args:
            kept: (path, split, media) of clips, and lists of candidates.
            numbers: of each, its record, its clip's place in ``kept`` or -1, that of its
                candidates, and the correct one or -1.
            queries: [n] texts.
            others: [n] the other fields, as JSON.
        """
        self._kept, self._numbers, self._queries, self._others = kept, numbers, queries, others

    @classmethod
    def pack(cls, examples: Iterable[Example]) -> Examples:
        """Packs examples as they come."""
        places: dict[tuple[str, str, tuple[int, ...]], int] = {}
        lists: dict[tuple[tuple[str, ...], ...], int] = {}
        by_id: dict[int, int] = {}  # of those in ``lists``, which live: a look at none of its texts
        numbers, queries, others = array.array("q"), _Texts(), _Texts()
        for example in examples:
            clip, candidates = example.clip, example.candidates
            place = -1
            if clip is not None:
                place = places.setdefault((clip.path, clip.split, clip.media), len(places))
            of_list = by_id.get(id(candidates))
            if of_list is None:
                new = len(lists)
                of_list = lists.setdefault(candidates, new)
                if of_list == new:
                    by_id[id(candidates)] = new
            gold = -1 if example.gold is None else example.gold
            numbers.extend((-1 if clip is None else clip.record, place, of_list, gold))
            queries.append(example.query)
            others.append(_as_json(example))
        kept = list(places), list(lists)
        table = np.array(numbers, np.int64).reshape(-1, 4).astype(np.int32)
        return cls(kept, table, queries.packed(), others.packed())

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            columns = (self._numbers[index], self._queries[index], self._others[index])
            return Examples(self._kept, *columns)
        record, place, of_list, gold = self._numbers[index].tolist()
        places, lists = self._kept
        clip = None
        if place >= 0:
            path, split, media = places[place]
            clip = ClipRef(path, split, record, media)
        name, texts, clips, meaning, tags = json.loads(self._others[index])
        return Example(
            id=name,
            clip=clip,
            query=self._queries[index],
            texts=tuple(texts),
            candidates=lists[of_list],
            candidate_clips=tuple(ClipRef(p, s, r, tuple(m)) for p, s, r, m in clips),
            gold=None if gold < 0 else gold,
            meaning=meaning,
            tags=tags,
        )


def _as_json(example: Example) -> str:
    clips = [(c.path, c.split, c.record, c.media) for c in example.candidate_clips]
    fields = (example.id, example.texts, clips, example.meaning, dict(example.tags))
    return json.dumps(fields, separators=(",", ":"))


class Pairs(Set[Pair]):
    """Distinct (clip, query) pairs, in the order of the files and, of a clip, of the queries.

    Attributes:
        splits: (path, split) of the clips, sorted.
        starts: [clips + 1] the row at which each clip's pairs begin, and their number.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        """Packs pairs as they come; several may be equal."""
        splits: dict[tuple[str, str], int] = {}
        media: dict[tuple[int, ...], int] = {}
        numbers, texts = array.array("q"), _Texts()
        for clip, query in pairs:
            numbers.append(splits.setdefault((clip.path, clip.split), len(splits)))
            numbers.append(clip.record)
            numbers.append(media.setdefault(clip.media, len(media)))
            texts.append(query)
        of_split, record, of_media = np.array(numbers, np.int64).reshape(-1, 3).T
        self._queries, of_query = np.unique(texts.packed(), return_inverse=True)
        self.splits, of_split = _sorted(splits, of_split)
        self._media, of_media = _sorted(media, of_media)
        self._split_numbers = {split: number for number, split in enumerate(self.splits)}
        self._media_numbers = {media: number for number, media in enumerate(self._media)}
        self._records = int(record.max(initial=-1)) + 1
        # One number a pair, which ascends: it is found by bisection.
        self._keys = np.unique(self._key(of_split, record, of_media, of_query))
        clips = self._keys // max(1, len(self._queries))
        self.starts = np.append(np.flatnonzero(np.diff(clips, prepend=-1)), len(clips))

    @classmethod
    def _from_iterable(cls, pairs: Iterable[Pair]) -> Pairs:
        return cls(pairs)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Pair]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> Pair:
        split, record, media, query = self._numbers(int(self._keys[row]))
        return ClipRef(*self.splits[split], record, self._media[media]), self._queries[query]

    def __contains__(self, pair: object) -> bool:
        return self.row(pair) is not None

    def row(self, pair: Pair) -> int | None:
        """The place of a pair; ``None`` if it is not there."""
        clip, text = pair
        split = self._split_numbers.get((clip.path, clip.split))
        media = self._media_numbers.get(clip.media)
        query = _place(self._queries, text)
        if None in (split, media, query) or not 0 <= clip.record < self._records:
            return None
        return _place(self._keys, self._key(split, clip.record, media, query))

    def queries(self, rows: Int[np.ndarray, " n"]) -> list[str]:
        """The queries of some rows."""
        return self._queries[self._keys[rows] % len(self._queries)].tolist()

    def clip(self, number: int) -> ClipRef:
        """A clip by its number."""
        return self[self.starts[number]][0]

    def clips(self, numbers: Int[np.ndarray, " n"]) -> Iterator[tuple[tuple[str, str], ClipKeys]]:
        """Of clips whose numbers ascend, split by split, the records and media to decode."""
        split, record, media, _ = self._numbers(self._keys[self.starts[:-1][numbers]])
        for number in np.unique(split).tolist():
            own = split == number
            yield self.splits[number], ClipKeys(record[own], media[own], self._media)

    def _key(self, split: _Numbers, record: _Numbers, media: _Numbers, query: _Numbers) -> _Numbers:
        clip = (split * self._records + record) * len(self._media) + media
        return clip * len(self._queries) + query

    def _numbers(self, key: _Numbers) -> tuple[_Numbers, _Numbers, _Numbers, _Numbers]:
        clip, query = divmod(key, len(self._queries))
        record, media = divmod(clip, len(self._media))
        split, record = divmod(record, self._records)
        return split, record, media, query


class ClipKeys(Sequence[ClipKey]):
    """The records and media of clips of one split."""

    def __init__(
        self, records: np.ndarray, media: np.ndarray, kinds: Sequence[tuple[int, ...]]
    ) -> None:
        self._records, self._media, self._kinds = records, media, kinds

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> ClipKey: ...
    @overload
    def __getitem__(self, index: slice) -> ClipKeys: ...
    def __getitem__(self, index: int | slice) -> ClipKey | ClipKeys:
        if isinstance(index, slice):
            return ClipKeys(self._records[index], self._media[index], self._kinds)
        return int(self._records[index]), self._kinds[self._media[index]]


class Rows(Mapping[Pair, "int | None"]):
    """The row of each pair; ``None`` where it was lost."""

    def __init__(self, pairs: Pairs, lost: Bool[np.ndarray, " n"]) -> None:
        self._pairs, self._lost = pairs, lost

    def __getitem__(self, pair: Pair) -> int | None:
        row = self._pairs.row(pair)
        if row is None:
            raise KeyError(pair)
        return None if self._lost[row] else row

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)


def _sorted(kinds: Mapping[_Kind, int], numbers: np.ndarray) -> tuple[list[_Kind], np.ndarray]:
    """Kinds in their order, and numbers that tell their places there, not when they came."""
    ordered = sorted(kinds)
    places = np.zeros(len(kinds), np.int64)
    places[[kinds[kind] for kind in ordered]] = np.arange(len(kinds))
    return ordered, places[numbers]


def _place(ascending: np.ndarray, value: int | str) -> int | None:
    place = bisect.bisect_left(ascending, value)  # numpy's own search fails on longer texts
    return place if place < len(ascending) and ascending[place] == value else None
