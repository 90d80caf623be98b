"""Writing the files of a part (``shards``), by one writer that knows of no other."""

from __future__ import annotations

import array
import collections
import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from vljepa_jax.data.parts import Part
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.shards import NAMES, TABLE, Kind, shard_path, table_path
from vljepa_jax.places import AnyPath

# Any medium can be read alone, and is compressed already; texts are small and much alike.
_WRITER_OPTIONS = {"media": "group_size:1,uncompressed", "annotations": "group_size:64"}


class PartWriter:
    """Writes the files of one part; methods raise OSError where they cannot be written.

    Args:
        directory: where they will lie, on a disk.
        index: of the part in its split.
    """

    def __init__(self, directory: pathlib.Path, split: str, index: int):
        self._table_path = table_path(directory, split, index)
        self._shards = {
            kind: ArrayRecordWriter(str(shard_path(directory, split, index, kind)), options)
            for kind, options in _WRITER_OPTIONS.items()
        }
        self._columns = {"record": array.array("I"), "task": array.array("H")}
        self._columns |= {"trainable": array.array("B")}
        self._tasks: dict[str, int] = {}
        self._trainable: collections.Counter[str] = collections.Counter()
        self._media = 0
        self._paths = False
        self.size = 0  # bytes of the entries written so far

    def add(self, record: Record) -> None:
        """Writes a media record and its annotations."""
        media = [_set_fields(medium) for medium in record.media]
        self._paths |= any(medium.path for medium in record.media)
        self._write("media", {"id": record.id, "media": media})
        for annotation in record.annotations:
            self._write("annotations", {"record": self._media, **_set_fields(annotation)})
            self._columns["record"].append(self._media)
            task = self._tasks.setdefault(annotation.task, len(self._tasks))
            self._columns["task"].append(task)
            self._columns["trainable"].append(annotation.trainable)
        trained = {self._tasks[a.task] for a in record.annotations if a.trainable}
        self._trainable[",".join(map(str, sorted(trained)))] += 1
        self._media += 1

    def close(self) -> Part:
        """Completes the files."""
        for writer in self._shards.values():
            with _explained(self._table_path.parent):
                writer.close()
        table = np.zeros(len(self._columns["record"]), TABLE)
        for name, column in self._columns.items():
            table[name] = np.frombuffer(column, column.typecode)
        np.save(self._table_path, table)
        trainable = dict(sorted(self._trainable.items()))
        return Part(self._media, len(table), tuple(self._tasks), self._paths, trainable)

    def _write(self, kind: Kind, fields: dict[str, Any]) -> None:
        data = msgpack.packb(fields, unicode_errors=NAMES)
        with _explained(self._table_path.parent):
            self._shards[kind].write(data)
        self.size += len(data)


@contextlib.contextmanager
def _explained(directory: AnyPath) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # array_record has no other, of the disk too
        raise OSError(f"{directory}: records cannot be written: {error}") from error


def _set_fields(entry: Medium | Annotation) -> dict[str, Any]:
    """The fields of an entry that are not their defaults."""
    values = vars(entry)
    return {n: values[n] for n, default in _defaults(type(entry)) if values[n] != default}


@functools.cache
def _defaults(kind: type) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (
            field.name,
            field.default
            if field.default_factory is dataclasses.MISSING
            else field.default_factory(),
        )
        for field in dataclasses.fields(kind)
    )
