"""The declaration of a dataset's adapter, and parts that adapters share: official files -> rows.

An adapter knows the files that a dataset's authors publish, as they are, and yields rows of a
manifest (``data.manifest_row``) from them. It opens no video and no image. Prompts, candidate
templates and metrics belong to benchmarks.
"""

from __future__ import annotations

import bisect
import csv
import dataclasses
import itertools
import json
import os
import pathlib
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from vljepa_jax.config import nearest
from vljepa_jax.data.kinds import MEDIA_EXTENSIONS
from vljepa_jax.data.manifest_row import ManifestRow, MediaEntry
from vljepa_jax.data.records import LABELS_PREFIX, Label

T = TypeVar("T")


class AdapterError(ValueError):
    """Official files that are missing or not as expected; the message names them and the mend."""


@dataclasses.dataclass(frozen=True)
class OfficialFile:
    """A file, or a folder of files, that a dataset's authors publish.

    Attributes:
        role: how the adapter calls it, e.g. "questions".
        paths: where it may lie below the root, with "/": the first that is there is read.
        source: where it comes from, as text.
        splits: that need it; () for all.
    """

    role: str
    paths: tuple[str, ...]
    source: str
    splits: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Split:
    """A split, and what its official files should give.

    Attributes:
        name: of the split.
        rows: number of rows; ``None`` where no public source says.
        media: number of different video or image files; ``None`` likewise.
    """

    name: str
    rows: int | None = None
    media: int | None = None


@dataclasses.dataclass(frozen=True)
class Adapter:
    """A dataset as it is known before it is read.

    Attributes:
        name: by which commands call it.
        title: of the dataset and of the task.
        citation: authors, venue and arXiv number.
        licence: of the annotations, and of the media where it differs.
        home: address of the authors' page.
        task: of the rows, one of ``data.manifest_row.TASKS``.
        files: the official layout.
        media: where a video or image may lie below the root: patterns of ``str.format`` over fields
            that ``read`` gives; a ``*`` in a file's name stands for anything, if it is the name of
            a medium. The first that is there is taken, and where none is, the first. () for text
            alone.
        splits: that there are.
        known_from: how the format is known: from the file itself, or from what else.
        read: yields the rows of a split.
        read_labels: gives the label sets, by the names that rows refer to ("@labels/NAME").
        label_counts: the number of labels in each; ``None`` where no public source says.
        read_media: yields (path, content) of media that lie inside official files.
        notes: traps, choices that public files leave open, what was not seen.
    """

    name: str
    title: str
    citation: str
    licence: str
    home: str
    task: str
    files: tuple[OfficialFile, ...]
    media: tuple[str, ...]
    splits: tuple[Split, ...]
    known_from: str
    read: Callable[[Official], Iterator[ManifestRow]]
    read_labels: Callable[[Official], Mapping[str, Sequence[Label]]] | None = None
    label_counts: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    read_media: Callable[[Official], Iterator[tuple[str, bytes]]] | None = None
    notes: tuple[str, ...] = ()

    def rows(self, root: str | pathlib.Path, split: str) -> Iterator[ManifestRow]:
        """Yields the rows of a split, in the order of the official file.

        Args:
            root: the folder with the official layout.

        Raises:
            AdapterError: the split is unknown; an official file is missing, or has another format.
        """
        official = self.official(root, split)
        yield from _told(official, self.read(official), "rows")

    def labels(self, root: str | pathlib.Path, split: str) -> dict[str, tuple[Label, ...]]:
        """The label sets that the rows of a split refer to.

        Raises:
            AdapterError: as ``rows``.
        """
        if self.read_labels is None:
            return {}
        official = self.official(root, split)
        sets = ((name, tuple(labels)) for name, labels in self.read_labels(official).items())
        return dict(_told(official, sets, "label sets"))

    def media_within(self, root: str | pathlib.Path, split: str) -> Iterator[tuple[str, bytes]]:
        """Yields (path, content) of media that lie inside official files.

        Raises:
            AdapterError: as ``rows``.
        """
        if self.read_media is not None:
            official = self.official(root, split)
            yield from _told(official, self.read_media(official), "media")

    def official(self, root: str | pathlib.Path, split: str) -> Official:
        """The official files of a split.

        Raises:
            AdapterError: there is no such split.
        """
        names = [known.name for known in self.splits]
        if split not in names:
            raise AdapterError(
                f"{self.name} has no split '{split}'{nearest(split, names)}; it has"
                f" {', '.join(names)}"
            )
        return Official(self, pathlib.Path(root), split)


@dataclasses.dataclass(frozen=True)
class Unsettled:
    """A dataset without a public file that settles its format: a manifest of one's own reads it.

    Attributes:
        name, title, citation, home: as ``Adapter``.
        reason: what could not be seen.
        columns: the fields of a manifest's row that its benchmark needs, each with what belongs
            there.
    """

    name: str
    title: str
    citation: str
    home: str
    reason: str
    columns: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Official:
    """The official files of one split, below a root; what ``Adapter.read`` is given."""

    adapter: Adapter
    root: pathlib.Path
    split: str
    # Names in folders where media are looked for, sorted: a folder may hold all of a dataset.
    listings: dict[str, list[str]] = dataclasses.field(default_factory=dict, repr=False)

    def needed(self) -> list[OfficialFile]:
        """The files that the split needs."""
        return [f for f in self.adapter.files if not f.splits or self.split in f.splits]

    def path(self, role: str) -> pathlib.Path:
        """Where a file lies.

        Raises:
            AdapterError: it is in none of its places.
        """
        file = next(file for file in self.needed() if file.role == role)
        for path in file.paths:
            if (self.root / path).exists():
                return self.root / path
        raise AdapterError(
            f"{self.adapter.name}, split '{self.split}': there is no"
            f" {' nor '.join(file.paths)} below {self.root}; it comes from {file.source}"
            f"{' (--splits chooses other splits)' if file.splits else ''}"
        )

    def json(self, role: str) -> Any:
        """The content of a JSON file."""
        with open(self.path(role), encoding="utf-8-sig") as file:
            return json.load(file)

    def json_lines(self, role: str) -> Iterator[Any]:
        """The objects of a file with one a line."""
        for line in self.lines(role):
            yield json.loads(line)

    def lines(self, role: str) -> Iterator[str]:
        """The lines of a text file that are not empty, stripped."""
        with open(self.path(role), encoding="utf-8-sig") as file:
            for line in file:
                if line.strip():
                    yield line.strip()

    def table(
        self, role: str, columns: Sequence[str], *, delimiter: str = ",", quoted: bool = True
    ) -> Iterator[dict[str, str]]:
        """The rows of a CSV or TSV file with a header, by column.

        Args:
            columns: that there must be, in any order.
            quoted: whether double quotes enclose fields, or are characters like others.
        """
        path = self.path(role)
        quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            if missing := [column for column in columns if column not in header]:
                raise AdapterError(
                    f"{path}: has no column {', '.join(missing)}; its header is {header}"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise AdapterError(
                        f"{path}, line {reader.line_num}: has another number of columns than its"
                        f" header, {len(header)}"
                    )
                yield row

    def medium(
        self, *, start: float | None = None, end: float | None = None, **fields: str | int
    ) -> MediaEntry:
        """An entry of a row's "media": the path that ``Adapter.media`` gives, and the span.

        Args:
            start, end: seconds.
            fields: of the patterns, and ``split``, which need not be given.
        """
        fields = {"split": self.split, **fields}
        return MediaEntry(self._medium_path(fields), start=start, end=end)

    def _medium_path(self, fields: Mapping[str, str | int]) -> str:
        for pattern in self.adapter.media:
            begin, star, end = (part.format_map(fields) for part in pattern.partition("*"))
            if not star:
                if os.path.isfile(os.path.join(self.root, begin)):
                    return begin
            elif found := self._find(*posixpath.split(begin), end):
                return found
        return self.adapter.media[0].format_map(fields)

    def _find(self, folder: str, begin: str, end: str) -> str | None:
        """The first medium of a folder whose name begins and ends so."""
        if folder not in self.listings:
            place = self.root / folder
            self.listings[folder] = sorted(os.listdir(place)) if place.is_dir() else []
        names = self.listings[folder]
        for name in itertools.islice(names, bisect.bisect_left(names, begin), None):
            if not name.startswith(begin):
                break
            if name.endswith(end) and posixpath.splitext(name)[1].lower() in MEDIA_EXTENSIONS:
                return posixpath.join(folder, name)
        return None


def manifest_row(
    id: str,
    *,
    media: Sequence[MediaEntry] = (),
    query: str | None = None,
    texts: Iterable[str] = (),
    labels: str | Sequence[str] = (),
    gold: int | None = None,
    times: Sequence[float] = (),
    tags: Mapping[str, object] | None = None,
) -> ManifestRow:
    """One row of a manifest.

    Args:
        id, media, query, texts, gold, times: as in ``data.manifest_row``.
        labels: the name of a label set, or candidate texts.
        tags: values become text.
    """
    return ManifestRow(
        id=id,
        media=tuple(media),
        query=query,
        texts=tuple(texts),
        cand=LABELS_PREFIX + labels if isinstance(labels, str) and labels else tuple(labels),
        gold=gold,
        times=tuple(times),
        tags={name: str(value) for name, value in (tags or {}).items()},
    )


def distinct_labels(texts: Iterable[str]) -> tuple[tuple[Label, ...], dict[str, int]]:
    """Labels of the different texts, in their order, and the index of each by ``label_key``.

    Two labels that say the same could not be told apart by what they say.
    """
    labels: dict[str, Label] = {}
    for text in texts:
        labels.setdefault(label_key(text), Label(label_key(text), (text.strip(),)))
    return tuple(labels.values()), {key: index for index, key in enumerate(labels)}


def label_key(text: str) -> str:
    """A key that is equal for labels that say the same: case and outer spaces do not count."""
    return text.strip().lower()


def camel_words(name: str) -> str:
    """ "ReplaceSIMCard" -> "replace SIM card"."""
    words = re.split(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", name)
    return " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in words)


# What reading a record of another format than the declared one raises.
_FORMAT_ERRORS = (LookupError, TypeError, AttributeError, ValueError, csv.Error)


def _told(official: Official, read: Iterator[T], what: str) -> Iterator[T]:
    """Yields what is read; the error that a file of another format leads to names the files."""
    count = 0
    try:
        for item in read:
            yield item
            count += 1
    except AdapterError:
        raise
    except _FORMAT_ERRORS as error:
        paths = [path for file in official.needed() for path in file.paths]
        found = ", ".join(path for path in paths if (official.root / path).exists())
        raise AdapterError(
            f"{official.adapter.name}, split '{official.split}': {found} below {official.root}: not"
            f" in the format that is read here, after {count} {what}"
            f" ({type(error).__name__}: {error})"
        ) from error
