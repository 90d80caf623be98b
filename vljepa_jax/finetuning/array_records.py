"""Datasets of TensorFlow Datasets in ArrayRecord files, read without TensorFlow.

A record is a ``tf.train.Example``, a message of protocol buffers whose definition is stable and is
repeated here (tensorflow/core/example/example.proto). Names of classes lie in
``FEATURE.labels.txt``; a video is a list of encoded pictures.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from vljepa_jax.data.records import shown
from vljepa_jax.finetuning.tables import SPLIT, TableError, named

_FILE = re.compile(r".+-(\w+)\.array_record-\d+-of-\d+$")
_TYPES = descriptor_pb2.FieldDescriptorProto


def read_array_records(
    path: pathlib.Path, files: Sequence[pathlib.Path]
) -> tuple[list[str], Iterator[dict[str, Any]]]:
    """The columns of a dataset's files and their rows, each with its split.

    A value is bytes, a number, or a list of these where the record has several.

    Raises:
        TableError: a file cannot be read, or holds records of another kind.
    """
    names = {
        file.name.removesuffix(".labels.txt"): file.read_text(encoding="utf-8").splitlines()
        for file in path.glob("*.labels.txt")
    }

    def rows() -> Iterator[dict[str, Any]]:
        for file in files:
            match = _FILE.fullmatch(file.name)
            split = {SPLIT: match[1]} if match else {}
            try:
                reader = ArrayRecordReader(str(file))
                if not reader.ok() or not reader.num_records():
                    raise ValueError("it holds no record")
                records = (reader.read([index])[0] for index in range(reader.num_records()))
                for record in records:
                    row = _values(record)
                    for name in names.keys() & row.keys():
                        row[name] = named(row[name], names[name])
                    yield split | row
            except (ValueError, RuntimeError, IndexError, DecodeError) as error:
                raise TableError(
                    f"{shown(str(file))}: is no file of TensorFlow Datasets that can be read "
                    f"({error}); of this package's own datasets give the folder"
                ) from error

    found = rows()
    first = next(found, None)
    if first is None:
        return [], iter(())
    return list(first), _with_first(first, found)


def _with_first(first: dict[str, Any], others: Iterator[dict[str, Any]]) -> Iterator[dict]:
    yield first
    yield from others


def _values(record: bytes) -> dict[str, Any]:
    row = {}
    for name, feature in _example()().FromString(record).features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        row[name] = values[0] if len(values) == 1 else values
    return row


@functools.cache
def _example() -> Any:
    """The class of the message ``tf.train.Example``."""
    file = descriptor_pb2.FileDescriptorProto(
        name="vljepa_jax/example.proto", package="vljepa_jax.example", syntax="proto3"
    )

    def message(name: str, *fields: tuple[str, int, int, str, bool], parent: Any = file) -> Any:
        added = (parent.message_type if parent is file else parent.nested_type).add(name=name)
        for field, number, kind, of, repeated in fields:
            label = _TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL
            added.field.add(
                name=field,
                number=number,
                type=kind,
                label=label,
                type_name=f".vljepa_jax.example.{of}" if of else None,
            )
        return added

    for name, kind in (
        ("BytesList", _TYPES.TYPE_BYTES),
        ("FloatList", _TYPES.TYPE_FLOAT),
        ("Int64List", _TYPES.TYPE_INT64),
    ):
        message(name, ("value", 1, kind, "", True))
    inner = _TYPES.TYPE_MESSAGE
    feature = message(
        "Feature",
        ("bytes_list", 1, inner, "BytesList", False),
        ("float_list", 2, inner, "FloatList", False),
        ("int64_list", 3, inner, "Int64List", False),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features", ("feature", 1, inner, "Features.FeatureEntry", True))
    entry = message(
        "FeatureEntry",
        ("key", 1, _TYPES.TYPE_STRING, "", False),
        ("value", 2, inner, "Feature", False),
        parent=features,
    )
    entry.options.map_entry = True
    message("Example", ("features", 1, inner, "Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("vljepa_jax.example.Example"))
