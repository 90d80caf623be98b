"""Rows of a source in files of their own, those about the same media one after another.

``beam_pipeline.group`` writes them, so that a source whose rows are in no order becomes one whose
records hold all that is said about their media.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import msgpack

from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.shares import (
    Piece,
    RecordSource,
    Refused,
    UnreadableFile,
    grouped,
    paths_below,
)
from vljepa_jax.places import write_bytes

_ENDING = ".rows"
_NAMES = "surrogatepass"  # names of files are not always UTF-8


@dataclasses.dataclass(frozen=True)
class GroupedRows(RecordSource):
    """Files ``*.rows`` below a folder, each a sequence of msgpack maps of ``Record``'s fields, or
    of ``Refused``'s.

    Attributes:
        card: of the source that the rows are of.
        root: the folder.
    """

    def pieces(self) -> Iterator[Piece]:
        return map(Piece, paths_below(self.root, (_ENDING,)))

    def read(self, piece: Piece) -> Iterator[Record | Refused]:
        with open(piece.path, "rb") as file:
            rows = msgpack.Unpacker(file, use_list=False, unicode_errors=_NAMES)
            try:
                yield from grouped(map(_row, rows))
                # A row that is cut off is no fault to msgpack.
                if rows.tell() != os.fstat(file.fileno()).st_size:
                    raise ValueError("it ends inside a row")
            except (msgpack.UnpackException, ValueError, TypeError, LookupError) as error:
                raise UnreadableFile("damaged file", str(error)) from error


def pack(row: Record | Refused) -> tuple[str, bytes]:
    """A row as bytes, with a key that rows about the same media share, and no others."""
    if isinstance(row, Refused):
        packed = _pack({"refused": vars(row)})
        return hashlib.sha256(packed).hexdigest(), packed
    media = [vars(medium) for medium in row.media]
    fields = {"id": row.id, "media": media, "annotations": [vars(a) for a in row.annotations]}
    return hashlib.sha256(_pack(media)).hexdigest(), _pack({"record": fields})


def write_rows(directory: str, number: int, rows: Iterable[tuple[str, bytes]]) -> None:
    """Writes a file of packed rows, in whatever order they come, and all at once.

    Rows about the same media follow each other, in the order of their bytes, which begin with the
    id: so the file depends on the rows alone.
    """
    path = pathlib.Path(directory, f"{number:05d}{_ENDING}")
    with tempfile.TemporaryDirectory(prefix=".rows-", dir=directory) as scratch:
        whole = pathlib.Path(scratch, path.name)
        write_bytes(whole, b"".join(packed for _, packed in sorted(rows)))
        whole.replace(path)  # another attempt may write the same bytes meanwhile


def _pack(value: Any) -> bytes:
    return msgpack.packb(value, unicode_errors=_NAMES)


def _row(fields: dict[str, Any]) -> Record | Refused:
    ((kind, values),) = fields.items()
    if kind == "refused":
        return Refused(**values)
    return Record(
        values["id"],
        tuple(Medium(**medium) for medium in values["media"]),
        tuple(Annotation(**annotation) for annotation in values["annotations"]),
    )
