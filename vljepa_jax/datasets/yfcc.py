"""YFCC-100M: its table of photos and videos, with titles and descriptions of their owners."""

from __future__ import annotations

import dataclasses
import os
import urllib.parse
from collections.abc import Iterator, Mapping

from vljepa_jax.data.records import Medium, Record
from vljepa_jax.data.shares import (
    Piece,
    RecordSource,
    Refused,
    decoded,
    leads_out,
    line_pieces,
    lines,
    medium_below,
    paths_below,
)
from vljepa_jax.datasets.columns import caption

_PIECE_BYTES = 8 << 20
# The columns of yfcc100m_dataset; the later one has the line's number and the hash of the file
# around the first.
_COLUMNS = [
    *("photoid", "uid", "unickname", "datetaken", "dateuploaded", "capturedevice", "title"),
    *("description", "usertags", "machinetags", "longitude", "latitude", "accuracy", "pageurl"),
    *("downloadurl", "licensename", "licenseurl", "serverid", "farmid", "secret"),
    *("secretoriginal", "ext", "marker"),
]
_HASHED = ["line", "photoid", "hash", *_COLUMNS[1:]]
_TEXTS = ("title", "description")


@dataclasses.dataclass(frozen=True)
class YFCC(RecordSource):
    """Tables ``*.tsv`` below a folder, each with a header or with the columns as published.

    A title and a description are an annotation each (tags.field). Texts are URL-encoded. A file
    lies where Multimedia Commons has it, by its hash, ``data/images/ab3/f28/ab3f28....jpg`` and
    ``data/videos/mp4/...``; in a table without hashes by its identifier, ``images/ID.jpg``.

    Attributes:
        root: the folder.
    """

    def pieces(self) -> Iterator[Piece]:
        for path in paths_below(self.root, (".tsv",)):
            yield from line_pieces(path, _PIECE_BYTES)

    def read(self, piece: Piece) -> Iterator[Record | Refused]:
        with open(piece.path, "rb") as file:
            first = (decoded(file.readline()) or "").rstrip("\r\n").split("\t")
        header = first if "photoid" in first else None
        for position, line in lines(piece):
            text = decoded(line)
            if text is None:
                name = f"{os.path.relpath(piece.path, self.root)}:{position}"
                yield Refused(name, "text is not UTF-8", "the line")
                continue
            fields = text.rstrip("\r\n").split("\t")
            if header is not None and position == 0:
                continue
            columns = header or (_HASHED if len(fields) == len(_HASHED) else _COLUMNS)
            if len(fields) != len(columns):
                name = f"{os.path.relpath(piece.path, self.root)}:{position}"
                reason = f"{len(fields)} columns, not {len(columns)}"
                yield Refused(name, "another schema", reason)
                continue
            yield from self._row(dict(zip(columns, fields, strict=True)))

    def _row(self, row: Mapping[str, str]) -> Iterator[Record | Refused]:
        id = row["photoid"]
        medium = self._medium(row)
        if medium is None:
            yield leads_out(id, row.get("hash", id))
            return
        annotations = []
        for field in _TEXTS:
            try:
                text = urllib.parse.unquote_plus(row.get(field, ""), errors="strict").strip()
            except UnicodeDecodeError:
                yield Refused(f"{id}/{field}", "text is not UTF-8", f"its {field}")
                continue
            if text:
                annotations.append(caption(f"{id}/{field}", text, tags={"field": field}))
        if annotations:
            yield Record(id, (medium,), tuple(annotations))
        else:
            yield Refused(id, "no text", "neither a title nor a description")

    def _medium(self, row: Mapping[str, str]) -> Medium | None:
        video = row.get("marker") == "1"
        if found := row.get("hash"):
            folder, ending = ("data/videos/mp4", "mp4") if video else ("data/images", "jpg")
            path = f"{folder}/{found[:3]}/{found[3:6]}/{found}.{ending}"
        else:
            path = f"images/{row['photoid']}.{row.get('ext') or 'jpg'}"
        return medium_below(self.root, path)
