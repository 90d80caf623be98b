"""An index: the embeddings of a collection on disk, and exact search in them.

A directory with ``index.json`` (which model made it, and how) and shards, ``000007.npy`` (float32
[rows, e], unit vectors) with ``000007.json`` (which clips the rows are). Shards are only ever
added: a later entry of the same name replaces an earlier one, and one without rows removes it. A
shard counts from the moment its JSON file appears, which is its last step, so that a writer may be
killed at any point: the next one sweeps up what it left and goes on.

Search compares the query with every row (``exact``). That is one pass over memory-mapped files,
some seconds for the six gigabytes of a million clips in 1536 dimensions, in bounded memory;
it finds the nearest ones always, and an update costs nothing. An approximate structure would give
up all three for collections beyond some ten million rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import dacite
import numpy as np
from jaxtyping import Float

from vljepa_jax.data.collection import Item, Place, Span
from vljepa_jax.data.records import Medium
from vljepa_jax.inference.search.exact import nearest
from vljepa_jax.json_text import JSONError, read_json
from vljepa_jax.ownership import owned
from vljepa_jax.places import write_text

_FORMAT = 1
_HEADER = "index.json"
# What building an object of a wrong document raises.
_MALFORMED = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError)


class SearchIndexError(ValueError):
    """An index that cannot be used; the message names it and the mend."""


@dataclasses.dataclass(frozen=True)
class IndexSettings:
    """Settings that all embeddings of an index have in common.

    Attributes:
        model: fingerprint of the model (``Embedder.fingerprint``).
        size: dimensions of the embeddings.
        query: X_Q under which all clips were embedded.
        frames: taken of each clip.
        window: seconds of a window; 0 embeds clips whole.
        stride: seconds from one window to the next.
    """

    model: str
    size: int
    query: str
    frames: int
    window: float
    stride: float


@dataclasses.dataclass(frozen=True)
class Entry:
    """One clip of an index.

    Attributes:
        item: where it is.
        stamp: of its content when it was embedded.
        spans: seconds of each of its rows; ``None`` for the whole.
        novelty: of each row (``Calibration.novelty``); () where the model had no calibration.
    """

    item: Item
    stamp: str
    spans: tuple[Span | None, ...]
    novelty: tuple[float, ...] = ()


class Hit(NamedTuple):
    """A clip, or a window of one, that a search found.

    Attributes:
        name: of the clip; a path, where it is a file.
        start, end: seconds of the window; ``None`` where the clip was embedded whole.
        score: cosine similarity to the query.
        item: to read it by.
        novelty: over 1, it is unlike what the model was trained on; ``None`` if not known.
        match: whether its model's calibration takes it for a match; ``None`` without one.
    """

    name: str
    start: float | None
    end: float | None
    score: float
    item: Item
    novelty: float | None = None
    match: bool | None = None


class VideoIndex:
    """An index opened for search.

    Attributes:
        directory: where it lies.
        settings: what made it.
        checkpoint: where the model was loaded from; "" where it was made in memory.
        entries: the clips in it, by name.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """Opens it; the embeddings stay on disk.

        Raises:
            SearchIndexError: there is no index, or a shard does not fit.
        """
        self.directory = Path(directory)
        self.settings, self.checkpoint = _read_header(self.directory)
        shards = [_Shard(path, self.settings.size) for path in _shard_paths(self.directory)]
        newest = {entry.item.name: shard for shard in shards for entry in shard.entries}
        self.entries: dict[str, Entry] = {}
        self._shards: list[tuple[_Shard, list[tuple[Entry, int]]]] = []
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
        return sum(len(entry.spans) for entry in self.entries.values())

    def search(
        self, queries: Float[np.ndarray, "q e"], top: int, *, each_once: bool = False
    ) -> list[list[Hit]]:
        """The rows nearest to each query by cosine, best first.

        Of windows of one clip that overlap, only the best is a hit.

        Args:
            queries: unit vectors.
            top: hits a query.
            each_once: only the best window of each clip.
        """
        if not self._shards:
            return [[] for _ in queries]
        looked_at = top
        while True:
            found = nearest(queries, map(_live_rows, self._shards), min(looked_at, len(self)))
            hits = [self._hits(*each, top, each_once) for each in zip(*found, strict=True)]
            # Where windows of the same clips fill the first places, further places are looked at.
            if looked_at >= len(self) or all(len(own) == top for own in hits):
                return hits
            looked_at *= 4

    def _hits(self, scores: np.ndarray, rows: np.ndarray, top: int, each_once: bool) -> list[Hit]:
        hits: list[Hit] = []
        taken: dict[str, list[Span | None]] = {}  # of each clip
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if row < 0 or len(hits) == top:
                break
            entry, place = self._rows[row]
            span, own = entry.spans[place], taken.setdefault(entry.item.name, [])
            if own and (each_once or any(_overlap(span, other) for other in own)):
                continue
            own.append(span)
            novelty = entry.novelty[place] if entry.novelty else None
            hits.append(
                Hit(entry.item.name, *(span or (None, None)), score, entry.item, novelty=novelty)
            )
        return hits

    @functools.cached_property
    def _rows(self) -> list[tuple[Entry, int]]:
        """The entry of each column of the scores, and which of its rows that is."""
        return [
            (entry, place)
            for _, live in self._shards
            for entry, _ in live
            for place in range(len(entry.spans))
        ]


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
        if self._others() and not (self.directory / _HEADER).exists():
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
        paths = _shard_paths(self.directory)
        stem = self.directory / f"{int(paths[-1].stem) + 1 if paths else 0:06d}"
        temporary = stem.with_suffix(".npy.tmp")
        with temporary.open("wb") as file:
            np.save(file, np.asarray(embeddings, np.float32))
        os.replace(temporary, stem.with_suffix(".npy"))
        write_text(stem.with_suffix(".json"), json.dumps([_fields(entry) for entry in entries]))
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
        return [path for path in self.directory.glob("[!.]*") if path.name != f"{_HEADER}.tmp"]

    def _take(self, settings: IndexSettings, checkpoint: str) -> None:
        if (self.directory / _HEADER).exists():
            _check_same(self.directory, settings)
        content = {"format": _FORMAT, "checkpoint": checkpoint, **dataclasses.asdict(settings)}
        write_text(self.directory / _HEADER, json.dumps(content, indent=2) + "\n")

    def _sweep(self) -> None:
        """Deletes what a killed writer left, and shards of which nothing counts any more.

        Oldest first: an entry that removes a clip is needed as long as an older shard has it.
        """
        paths = _shard_paths(self.directory)
        kept = {path.with_suffix(".npy") for path in paths}
        for path in [*self.directory.glob("*.tmp"), *self.directory.glob("*.npy")]:
            if path not in kept:
                path.unlink()
        shards = [_Shard(path, None) for path in paths]
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


class _Shard:
    """One pair of files; the embeddings are mapped when they are asked for."""

    def __init__(self, path: Path, size: int | None) -> None:
        """``size``: dimensions to check the embeddings by; ``None`` does not look at them."""
        self.path = path
        try:
            self.entries = [_entry(fields) for fields in read_json(path, list)]
        except JSONError as error:
            raise SearchIndexError(f"{error}; delete it, and embed again") from error
        except _MALFORMED as error:
            raise SearchIndexError(
                f"{path}: is no shard of an index ({error!r}); delete it, and embed again"
            ) from error
        if size is not None:
            expected = (sum(len(entry.spans) for entry in self.entries), size)
            found = self.embeddings().shape
            if found != expected:
                raise SearchIndexError(
                    f"{path.with_suffix('.npy')}: has shape {list(found)}, where {path.name} "
                    f"tells {list(expected)}; delete both and embed again"
                )

    def embeddings(self) -> np.ndarray:
        path = self.path.with_suffix(".npy")
        some = any(entry.spans for entry in self.entries)  # nothing cannot be mapped
        try:
            return np.load(path, mmap_mode="r" if some else None)
        except Exception as error:  # numpy raises nearly any kind on a damaged header
            raise SearchIndexError(
                f"{path}: cannot be read ({error}); delete it and {self.path.name}, and embed again"
            ) from error

    def rows(self) -> Iterator[tuple[Entry, int]]:
        """The entries with their first rows."""
        first = 0
        for entry in self.entries:
            yield entry, first
            first += len(entry.spans)


def _overlap(one: Span | None, other: Span | None) -> bool:
    if one is None or other is None:
        return True
    return one[0] < other[1] and other[0] < one[1]


def _live_rows(part: tuple[_Shard, Sequence[tuple[Entry, int]]]) -> np.ndarray:
    """The embeddings of a shard that count; mapped where all do."""
    shard, live = part
    embeddings = shard.embeddings()
    rows = [row for entry, first in live for row in range(first, first + len(entry.spans))]
    return embeddings if len(rows) == len(embeddings) else embeddings[rows]


def _shard_paths(directory: Path) -> list[Path]:
    paths = [path for path in directory.glob("*.json") if path.stem.isdigit()]
    return sorted(paths, key=lambda path: int(path.stem))


def _read_header(directory: Path) -> tuple[IndexSettings, str]:
    path = directory / _HEADER
    if not path.is_file():
        raise SearchIndexError(f"'{directory}' is no index; launch/embed.py makes one")
    mend = "embed the collection into another --output"
    try:
        fields = read_json(path, dict)
    except JSONError as error:
        raise SearchIndexError(f"{error}; {mend}") from error
    if fields.get("format") != _FORMAT:
        raise SearchIndexError(
            f"{path}: is of form {fields.get('format')}, this version reads form {_FORMAT}"
        )
    try:
        settings = {field.name: fields[field.name] for field in dataclasses.fields(IndexSettings)}
        # A whole number of seconds is a number too.
        made = dacite.from_dict(IndexSettings, settings, dacite.Config(cast=[float]))
        return made, os.fspath(fields["checkpoint"])
    except (*_MALFORMED, dacite.DaciteError) as error:
        raise SearchIndexError(f"{path}: is no header of an index ({error!r}); {mend}") from error


def _check_same(directory: Path, settings: IndexSettings) -> None:
    made, checkpoint = _read_header(directory)
    differing = [
        f"{field.name}: {getattr(made, field.name)!r} in the index, "
        f"{getattr(settings, field.name)!r} here"
        for field in dataclasses.fields(IndexSettings)
        if getattr(made, field.name) != getattr(settings, field.name)
    ]
    if differing:
        raise SearchIndexError(
            f"'{directory}' was made in another way, from '{checkpoint}':\n  "
            + "\n  ".join(differing)
            + "\nTake the same, or another --output."
        )


def _fields(entry: Entry) -> dict:
    fields = dataclasses.asdict(entry)
    for medium in fields["item"]["media"]:
        del medium["data"]  # empty: bytes stay in the dataset, to which the place leads
    return fields


def _entry(fields: dict) -> Entry:
    """Raises one of ``_MALFORMED`` for what is no entry."""
    item, place = fields["item"], fields["item"]["place"]
    media = tuple(Medium(**medium) for medium in item["media"])
    for text in (item["name"], fields["stamp"], *(medium.path for medium in media)):
        if not isinstance(text, str):
            raise TypeError(f"{text!r} is no text")
    return Entry(
        Item(item["name"], media, place and Place(**{**place, "inputs": tuple(place["inputs"])})),
        fields["stamp"],
        tuple(span and (float(span[0]), float(span[1])) for span in fields["spans"]),
        tuple(map(float, fields.get("novelty", ()))),
    )
