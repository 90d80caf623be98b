"""The files of a dataset's splits: media apart from what is asked and said about them.

A split is a sequence of parts, each of three files that one writer makes without knowing of others:

    SPLIT-00000.media.array_record        an entry a media record: {"id", "media": [{...}, ...]}
    SPLIT-00000.annotations.array_record  an entry an annotation: {"record", "id", "task", ...}
    SPLIT-00000.table.npy                 a row an annotation: ``TABLE``, to be memory-mapped

Entries are msgpack maps of the fields of ``records.Medium`` and ``records.Annotation`` that differ
from their defaults. "record" is the index of the media record in its part; annotations are in the
order of their records. What is small and wanted all at once, how many entries each part has, is in
the dataset's metadata (``storage``), so that opening a split opens none of these files.
"""

from __future__ import annotations

import bisect
import functools
import io
import os
import threading
from collections.abc import Collection, Iterator
from typing import Any, Literal

import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from vljepa_jax.data.arrays import load_array
from vljepa_jax.data.parts import Parts
from vljepa_jax.data.records import Annotation, MediaRecord, Medium, shown
from vljepa_jax.places import DATASET_BUCKETS, AnyPath, in_bucket, place

# A row of the table: the media record of an annotation, by its index in the part; its task, by its
# index among the part's; and whether it is a training example (``Annotation.trainable``).
TABLE = np.dtype([("record", "<u4"), ("task", "<u2"), ("trainable", "?")])

Kind = Literal["media", "annotations"]
_READER_OPTIONS = "readahead_buffer_size:0"  # entries are asked for in no order
_READER_BUFFER = 1 << 15  # bytes
_OPEN = 64  # parts of a split that are kept open: an open shard holds its index in memory
NAMES = "surrogatepass"  # an id may be the name of a file, which is not always UTF-8


class DatasetError(ValueError):
    """A dataset that cannot be written or read; the message names it and the reason."""


class Shards:
    """The entries of one kind of a split, by their index in the split.

    Cheap to send to worker processes: files are opened when they are read first.

    Attributes:
        kind: of the entries.
        directory: of the dataset.
        split: its name.
    """

    kind: Kind

    def __init__(self, directory: str, split: str, parts: Parts):
        self.directory = directory
        self.split = split
        self._parts = parts
        self._set_up()

    def _set_up(self) -> None:
        self._ends = np.cumsum(getattr(self._parts, self.kind))
        self._opening = threading.Lock()
        self._opened = functools.lru_cache(_OPEN)(self._open_shard)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:  # open files stay behind
        return {name: vars(self)[name] for name in ("directory", "split", "_parts")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._set_up()

    def _locate(self, index: int) -> tuple[int, int]:
        """The part of an entry, and its index in the part."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.directory}, split '{self.split}': {index} of {len(self)}")
        part = bisect.bisect_right(self._ends, index)
        return part, index - (int(self._ends[part - 1]) if part else 0)

    def _read(self, part: int, first: int, end: int) -> list[Any]:
        """Entries of a part, unpacked."""
        if first == end:
            return []
        reader = self._reader(part)
        try:
            return [
                msgpack.unpackb(entry, use_list=False, unicode_errors=NAMES)
                for entry in reader.read(first, end)
            ]
        except Exception as error:  # of either library, whose kinds of errors are their own
            raise DatasetError(
                f"{self._path(part)}: is damaged ({shown(str(error))}); copy or make it anew"
            ) from error

    def _reader(self, part: int) -> ArrayRecordReader:
        with self._opening:  # several threads read, and one opens
            return self._opened(part)

    def _open_shard(self, part: int) -> ArrayRecordReader:
        path = self._path(part)
        wanted = int(getattr(self._parts, self.kind)[part])
        try:
            reader = ArrayRecordReader(
                os.fspath(path), _READER_OPTIONS, file_reader_buffer_size=_READER_BUFFER
            )
            found = reader.num_records()  # 0 where there is no such file
        except Exception as error:  # as above
            raise DatasetError(
                f"{path}: is damaged ({shown(str(error))}); copy or make it anew"
            ) from error
        if found != wanted:
            raise DatasetError(
                f"{path}: missing or damaged, {found} of {wanted} entries are there; copy or make "
                "it anew"
            )
        return reader

    def _path(self, part: int) -> AnyPath:
        return shard_path(place(self.directory, DATASET_BUCKETS), self.split, part, self.kind)


class Media(Shards):
    """The media records of a split."""

    kind = "media"

    def __getitem__(self, index: int) -> MediaRecord:
        part, first = self._locate(index)
        (fields,) = self._read(part, first, first + 1)
        media = tuple(Medium(**medium) for medium in fields["media"])
        return MediaRecord(fields["id"], media)

    def has_paths(self, index: int) -> bool:
        """Whether media of a record may be files outside of the dataset, which may change."""
        return self._part_has_paths(self._locate(index)[0])

    def _set_up(self) -> None:
        super()._set_up()
        self._part_has_paths = functools.cache(self._look_for_paths)

    def _look_for_paths(self, part: int) -> bool:
        told = self._parts[part].paths
        if told is not None:
            return told
        first = int(self._ends[part] - self._parts.media[part])  # launch/prepare.py makes all alike
        return any(medium.path for medium in self[first].media)


class Annotations(Shards):
    """The annotations of a split, in the order of its media records; no medium is read."""

    kind = "annotations"
    _CHUNK = 1024  # entries read at a time

    def _set_up(self) -> None:
        super()._set_up()
        self._first_record = np.concatenate([[0], np.cumsum(self._parts.media)])  # of each part
        self._table = functools.lru_cache(_OPEN)(self._open_table)

    def __getitem__(self, index: int) -> tuple[int, Annotation]:
        """An annotation, with the index of its media record."""
        part, first = self._locate(index)
        return next(self._annotations(part, first, first + 1))

    def __iter__(self) -> Iterator[tuple[int, Annotation]]:
        """All of them in order, each with the index of its media record."""
        for index, count in enumerate(self._parts.annotations.tolist()):
            for first in range(0, count, self._CHUNK):
                end = min(first + self._CHUNK, count)
                yield from self._annotations(index, first, end)

    def of(self, record: int) -> tuple[Annotation, ...]:
        """The annotations of one media record, in order."""
        part = bisect.bisect_right(self._first_record, record) - 1
        if not 0 <= part < len(self._parts):
            raise IndexError(f"{self.directory}, split '{self.split}': no record {record}")
        owners, own = self._table(part)["record"], record - int(self._first_record[part])
        first = bisect.bisect_left(owners, own)
        end = bisect.bisect_right(owners, own, first)
        return tuple(annotation for _, annotation in self._annotations(part, first, end))

    def tasks(self, *, trainable: bool) -> list[str]:
        """The tasks that there are annotations of, sorted.

        Args:
            trainable: whether only training examples count.
        """
        found = self._parts.trainable_tasks() if trainable else set()
        for index in self._parts.untold if trainable else range(len(self._parts)):
            found |= self._tasks_in(index, trainable)
        return sorted(found)

    def records(self, tasks: Collection[str], *, trainable: bool) -> ChosenRecords:
        """The media records with an annotation of one of these tasks, ascending.

        Args:
            trainable: whether only training examples count.
        """
        return ChosenRecords(self, frozenset(tasks), trainable)

    def counts(self, tasks: frozenset[str], trainable: bool) -> np.ndarray:
        """The number of such records in each part, int64 [P].

        Of training examples the metadata tells it; else, and in datasets that were written before
        it did, all tables are read.
        """
        counts = np.full(len(self._parts), -1)
        if trainable:
            counts = self._parts.trainable_records(tasks)
        for index in np.flatnonzero(counts < 0).tolist():
            counts[index] = len(self.records_in(index, tasks, trainable))
        return counts

    def records_in(self, part: int, tasks: frozenset[str], trainable: bool) -> np.ndarray:
        """Such records of a part, by their index in the part, ascending, unsigned [R]."""
        table = self._table(part)
        own = self._parts.tasks(part)
        wanted = np.isin(table["task"], [i for i, task in enumerate(own) if task in tasks])
        if trainable:
            wanted &= table["trainable"]
        return np.unique(table["record"][wanted])

    def records_of(self, part: int) -> tuple[int, int]:
        """The first media record of a part, and how many it has."""
        return int(self._first_record[part]), int(self._parts.media[part])

    def _tasks_in(self, part: int, trainable: bool) -> set[str]:
        table, own = self._table(part), self._parts.tasks(part)
        numbers = np.unique(table["task"][table["trainable"]] if trainable else table["task"])
        if len(numbers) and numbers[-1] >= len(own):
            raise DatasetError(
                f"{self.directory}, split '{self.split}', part {part}: its table has tasks "
                "that its metadata does not; copy or make it anew"
            )
        return {own[task] for task in numbers}

    def _annotations(self, part: int, first: int, end: int) -> Iterator[tuple[int, Annotation]]:
        for fields in self._read(part, first, end):
            record = int(self._first_record[part]) + fields.pop("record")
            yield record, Annotation(**fields)

    def _open_table(self, part: int) -> np.ndarray:
        path = table_path(place(self.directory, DATASET_BUCKETS), self.split, part)
        try:
            if in_bucket(path):
                table = load_array(io.BytesIO(path.read_bytes()))
            else:
                # A bare view is faster to index.
                table = np.asarray(load_array(path, mmap_mode="r"))
        except Exception as error:  # numpy raises nearly any kind on a damaged header
            raise DatasetError(
                f"{path}: missing or damaged ({shown(str(error))}); copy or make it anew"
            ) from error
        expected = int(self._parts.annotations[part])
        if table.dtype != TABLE or table.shape != (expected,):
            raise DatasetError(
                f"{path}: damaged, it is no table of {expected} annotations; copy or make it anew"
            )
        return table


class ChosenRecords:
    """The media records of a split that have an annotation of some tasks, in order.

    They are counted by the part; which ones a part has is looked up when one of them is asked for,
    unless it is all. So opening costs nothing a record, nor does sending it to a process.
    """

    def __init__(self, annotations: Annotations, tasks: frozenset[str], trainable: bool):
        self._annotations, self._tasks, self._trainable = annotations, tasks, trainable
        self._ends = np.cumsum(annotations.counts(tasks, trainable))
        self._set_up()

    def _set_up(self) -> None:
        self._in = functools.lru_cache(_OPEN)(self._records_in)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_in"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._set_up()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, place: int) -> int:
        """The index of a record in the split, by its place among these."""
        if not 0 <= place < len(self):
            raise IndexError(f"{place} of {len(self)} records")
        part = bisect.bisect_right(self._ends, place)
        inside = place - (int(self._ends[part - 1]) if part else 0)
        first, records = self._in(part)
        return first + (inside if records is None else int(records[inside]))

    def __iter__(self) -> Iterator[int]:
        return map(self.__getitem__, range(len(self)))

    def _records_in(self, part: int) -> tuple[int, np.ndarray | None]:
        """The first record of a part, and which of it are chosen; ``None`` where all are."""
        first, media = self._annotations.records_of(part)
        count = int(self._ends[part]) - (int(self._ends[part - 1]) if part else 0)
        if count == media:
            return first, None
        found = self._annotations.records_in(part, self._tasks, self._trainable)
        if len(found) != count:
            raise DatasetError(
                f"{self._annotations.directory}, split '{self._annotations.split}', part {part}: "
                f"its table has {len(found)} records of these tasks, and its metadata {count}; "
                "copy or make it anew"
            )
        return first, found


def shard_path(directory: AnyPath, split: str, part: int, kind: Kind) -> AnyPath:
    return directory / f"{split}-{part:05d}.{kind}.array_record"


def table_path(directory: AnyPath, split: str, part: int) -> AnyPath:
    return directory / f"{split}-{part:05d}.table.npy"
