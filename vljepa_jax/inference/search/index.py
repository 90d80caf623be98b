"""An index: the embeddings of a collection on disk, and exact search in them.

A directory with ``index.json`` (which model made it, and how) and shards, ``000007.npy`` (float32
[rows, e], unit vectors) with ``000007.json`` (which clips the rows are). Shards are only ever
added: a later entry of the same name replaces an earlier one, and one without rows removes it. A
shard counts from the moment its JSON file appears, which is its last step, so that a writer may be
killed at any point: the next one sweeps up what it left and goes on.

Search compares the query with every row (``exact``). That is one pass over memory-mapped files,
some seconds for the six gigabytes of a million clips in 1536 dimensions, in bounded memory, or
over what the first search left on the device (``resident``; docs/search.md has times of both). It
finds the nearest ones always, and an update costs nothing. An approximate structure would give up
all three for collections beyond some ten million rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vljepa_jax.inference.search.exact import Nearest, Placed, nearest_placed, place
from vljepa_jax.inference.search.hits import Hit, Picker, Row
from vljepa_jax.inference.search.index_files import (
    FORMAT,
    HEADER,
    Entry,
    IndexSettings,
    SearchIndexError,
    Shard,
    check_same,
    read_header,
    shard_paths,
    to_fields,
)
from vljepa_jax.ownership import owned
from vljepa_jax.places import write_text

_LOOKED_AT = 64  # rows, at least, among which hits are picked


class VideoIndex:
    """An index opened for search.

    Attributes:
        directory: where it lies.
        settings: what made it.
        checkpoint: where the model was loaded from; "" where it was made in memory.
        entries: the clips in it, by name.
    """

    def __init__(self, directory: str | os.PathLike[str], *, resident: bool = False) -> None:
        """Opens it; the embeddings stay on disk.

        Args:
            resident: the first search leaves all embeddings on the device, so that the next ones
                need not read them again.

        Raises:
            SearchIndexError: there is no index, or a shard does not fit.
        """
        self._resident = resident
        self.directory = Path(directory)
        self.settings, self.checkpoint = read_header(self.directory)
        shards = [Shard(path, self.settings.size) for path in shard_paths(self.directory)]
        newest = {entry.item.name: shard for shard in shards for entry in shard.entries}
        self.entries: dict[str, Entry] = {}
        self._shards: list[tuple[Shard, list[tuple[Entry, int]]]] = []
        for shard in shards:
            live = [
                (entry, first)
                for entry, first in shard.rows()
                if newest[entry.item.name] is shard and entry.spans
            ]
            self.entries |= {entry.item.name: entry for entry, _ in live}
            if live:
                self._shards.append((shard, live))

    def __len__(self) -> int:
        """Rows that a search looks at."""
        return int(self._clips.firsts[-1])

    def rows(self) -> Iterator[tuple[Float[np.ndarray, "n e"], list[Row]]]:
        """The embeddings that count, a shard at a time, and what each is of."""
        for part in self._shards:
            _, live = part
            rows = [Row(entry, place) for entry, _ in live for place in range(len(entry.spans))]
            yield _live_rows(part), rows

    def search(
        self,
        queries: Float[np.ndarray, "q e"],
        top: int,
        *,
        each_once: bool = False,
        fold: float | None = None,
        threshold: float | None = None,
        names: str | None = None,
    ) -> list[list[Hit]]:
        """The rows nearest to each query by cosine, best first.

        Of windows of one clip that overlap, only the best is a hit. What is folded into a hit is
        told there, as far as it is among the 64 nearest rows, or four times ``top``.

        Args:
            queries: unit vectors.
            top: hits a query.
            each_once: only the best window of each clip.
            fold: a row whose cosine with a better hit is no less is folded into it; ``None`` folds
                nothing but windows that overlap.
            threshold: least cosine of a hit.
            names: a pattern of ``fnmatch`` that names of clips must match; case counts.

        Raises:
            ValueError: the threshold is no cosine, or ``fold`` is none above 0.
        """
        picker = functools.partial(Picker, self._row, self._vector, top, each_once, fold, threshold)
        pickers = [picker() for _ in queries]
        if not self._shards:
            return [[] for _ in queries]
        allowed = np.ones(len(self), bool) if names is None else self._named(names)
        looked_at = min(max(_LOOKED_AT, 4 * top), len(self))
        found = self._nearest(queries, looked_at, allowed)
        for number, picks in enumerate(pickers):
            scores, rows = found.scores[number], found.rows[number]
            left = allowed
            # Where what is folded fills the first places, the others are looked at.
            while picks.take(scores, rows):
                left = left & ~self._covered(rows, picks.hits, each_once)
                near = None if fold is None else (np.stack(picks.vectors), fold)
                ((scores,), (rows,)) = self._nearest(
                    queries[number : number + 1], looked_at, left, near
                )
        return [picks.hits for picks in pickers]

    def _nearest(
        self,
        queries: np.ndarray,
        k: int,
        allowed: np.ndarray,
        apart: tuple[np.ndarray, float] | None = None,
    ) -> Nearest:
        blocks = self._on_device if self._resident else place(map(_live_rows, self._shards))
        return nearest_placed(queries, blocks, k, allowed=allowed, apart=apart)

    @functools.cached_property
    def _on_device(self) -> list[Placed]:
        return list(place(map(_live_rows, self._shards)))

    @functools.cached_property
    def _clips(self) -> _Clips:
        own = [(shard, *clip) for shard, live in self._shards for clip in live]
        return _Clips(own, np.cumsum([0, *(len(entry.spans) for _, entry, _ in own)]))

    def _row(self, row: int) -> Row:
        _, entry, _, place = self._clips.find(row)
        return Row(entry, place)

    def _vector(self, row: int) -> np.ndarray:
        shard, _, number, _ = self._clips.find(row)
        return np.asarray(self._embeddings(shard)[number])

    @functools.cached_property
    def _embeddings(self) -> Callable[[Shard], np.ndarray]:
        """Of a shard; some stay open."""
        return functools.lru_cache(maxsize=64)(Shard.embeddings)

    def _named(self, names: str) -> Bool[np.ndarray, " n"]:
        """Whether the clip of each row has such a name."""
        own, firsts = self._clips
        matching = [fnmatch.fnmatchcase(entry.item.name, names) for _, entry, _ in own]
        return np.repeat(np.array(matching, bool), np.diff(firsts))

    def _covered(
        self, rows: Int[np.ndarray, " k"], hits: Sequence[Hit], each_once: bool
    ) -> Bool[np.ndarray, " n"]:
        """Rows that can be no further hit: those looked at, and others of the clips of hits."""
        own, firsts = self._clips
        covered = np.zeros(len(self), bool)
        covered[rows[rows >= 0]] = True
        for hit in hits:
            number = self._numbers[hit.name]
            spans = own[number][1].spans
            covered[firsts[number] : firsts[number + 1]] |= [
                each_once or hit.overlaps(span) for span in spans
            ]
        return covered

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        """Of clips, by their names."""
        own, _ = self._clips
        return {entry.item.name: number for number, (_, entry, _) in enumerate(own)}


class _Clips(NamedTuple):
    """The clips of an index, in the order of their rows.

    Attributes:
        own: of each the shard, the entry, and its first row in the shard.
        firsts: the first row of each, of all rows; and how many there are.
    """

    own: list[tuple[Shard, Entry, int]]
    firsts: Int[np.ndarray, " clips+1"]

    def find(self, row: int) -> tuple[Shard, Entry, int, int]:
        """The shard and the clip of a row, its number in the shard, and in the clip."""
        clip = int(np.searchsorted(self.firsts, row, side="right")) - 1
        shard, entry, first = self.own[clip]
        number = row - int(self.firsts[clip])
        return shard, entry, first + number, number


class IndexWriter:
    """An index opened for changes; a context manager. One process at a time.

    Attributes:
        directory: where it lies.
        entries: the clips in it, by name.
    """

    def __init__(
        self, directory: str | os.PathLike[str], settings: IndexSettings, checkpoint: str
    ) -> None:
        """Makes it, or opens it if it is there already.

        Raises:
            SearchIndexError: it was made by another model or in another way, or is not an index.
            InUse: another process is writing.
        """
        self.directory = Path(directory)
        self._size = settings.size
        if self._others() and not (self.directory / HEADER).exists():
            raise SearchIndexError(f"'{self.directory}' is not empty and holds no index")
        with contextlib.ExitStack() as stack:
            alone = stack.enter_context(owned(self.directory))
            self._take(settings, checkpoint)
            if alone:
                self._sweep()
            self.entries = VideoIndex(directory).entries
            self._owned = stack.pop_all()

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._owned.close()

    def add(self, entries: Sequence[Entry], embeddings: Float[np.ndarray, "n e"]) -> None:
        """Writes a shard; entries replace those of the same name.

        Args:
            entries: one without spans removes what has its name.
            embeddings: a row for each span of each entry, in order.
        """
        if len(embeddings) != sum(len(entry.spans) for entry in entries):
            raise ValueError(f"{len(embeddings)} embeddings for another number of spans")
        paths = shard_paths(self.directory)
        stem = self.directory / f"{int(paths[-1].stem) + 1 if paths else 0:06d}"
        temporary = stem.with_suffix(".npy.tmp")
        with temporary.open("wb") as file:
            np.save(file, np.asarray(embeddings, np.float32))
        os.replace(temporary, stem.with_suffix(".npy"))
        write_text(stem.with_suffix(".json"), json.dumps([to_fields(entry) for entry in entries]))
        # From here on it counts.
        for entry in entries:
            self.entries.pop(entry.item.name, None)
            if entry.spans:
                self.entries[entry.item.name] = entry

    def remove(self, names: Iterable[str]) -> None:
        """Removes clips."""
        gone = [Entry(self.entries[name].item, "", ()) for name in names if name in self.entries]
        if gone:
            self.add(gone, np.zeros((0, self._size), np.float32))

    def _others(self) -> list[Path]:
        """What lies there that a writer killed at its first step would not have left."""
        return [path for path in self.directory.glob("[!.]*") if path.name != f"{HEADER}.tmp"]

    def _take(self, settings: IndexSettings, checkpoint: str) -> None:
        if (self.directory / HEADER).exists():
            check_same(self.directory, settings)
        content = {"format": FORMAT, "checkpoint": checkpoint, **dataclasses.asdict(settings)}
        write_text(self.directory / HEADER, json.dumps(content, indent=2) + "\n")

    def _sweep(self) -> None:
        """Deletes what a killed writer left, and shards of which nothing counts any more.

        Oldest first: an entry that removes a clip is needed as long as an older shard has it.
        """
        paths = shard_paths(self.directory)
        kept = {path.with_suffix(".npy") for path in paths}
        for path in [*self.directory.glob("*.tmp"), *self.directory.glob("*.npy")]:
            if path not in kept:
                path.unlink()
        shards = [Shard(path, None) for path in paths]
        last = {entry.item.name: shard for shard in shards for entry in shard.entries}
        seen: set[str] = set()
        for shard in shards:
            needed = {
                entry.item.name
                for entry in shard.entries
                if last[entry.item.name] is shard and (entry.spans or entry.item.name in seen)
            }
            if needed:
                seen |= {entry.item.name for entry in shard.entries}
            else:
                shard.path.unlink()  # first: without it the other file counts for nothing
                shard.path.with_suffix(".npy").unlink()


def _live_rows(part: tuple[Shard, Sequence[tuple[Entry, int]]]) -> np.ndarray:
    """The embeddings of a shard that count; mapped where all do."""
    shard, live = part
    embeddings = shard.embeddings()
    if sum(len(entry.spans) for entry, _ in live) == len(embeddings):
        return embeddings
    rows = [row for entry, first in live for row in range(first, first + len(entry.spans))]
    return embeddings[rows]
