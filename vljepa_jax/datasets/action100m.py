"""Action100M: trees of spans of instructional videos, each with texts of several models."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any

from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.shares import (
    Piece,
    RecordSource,
    Refused,
    UnreadableFile,
    leads_out,
    medium_below,
    paths_below,
)
from vljepa_jax.datasets.columns import caption, field_of
from vljepa_jax.datasets.parquet_rows import open_parquet, parquet_rows
from vljepa_jax.json_text import JSONError, read_json
from vljepa_jax.places import place

_COLUMNS = ["video_uid", "nodes"]
# Texts of a node; "gpt" is null for short spans.
_FIELDS = (
    *("plm_action", "plm_caption", "llama3_caption"),
    *("gpt.summary.brief", "gpt.summary.detailed"),
    *("gpt.action.brief", "gpt.action.detailed", "gpt.action.actor"),
)
_FOLDERS, _ENDINGS = ("videos", ""), ("mp4", "webm", "mkv")


@dataclasses.dataclass(frozen=True)
class Action100M(RecordSource):
    """Parquet and JSON files below a folder, and the videos, ``videos/UID.mp4``.

    A record is a video: its media are the spans of its nodes, and each text of a node is an
    annotation (tags.field, tags.level). The text "N/A" is refused; a field that is null is none.

    Attributes:
        root: the folder.
    """

    def pieces(self) -> Iterator[Piece]:
        return map(Piece, paths_below(self.root, (".parquet", ".json")))

    def read(self, piece: Piece) -> Iterator[Record | Refused]:
        for video, nodes in _videos(piece.path):
            if not isinstance(video, str) or not isinstance(nodes, list):
                yield Refused(str(video), "another schema", "no video_uid, or no list of nodes")
            elif (path := self._path(video)) is None:
                yield leads_out(video, video)
            else:
                yield from _rows(video, path, nodes)

    def _path(self, video: str) -> str | None:
        places = [
            medium_below(self.root, os.path.join(folder, f"{video}.{ending}"))
            for folder, ending in itertools.product(_FOLDERS, _ENDINGS)
        ]
        if None in places:
            return None
        there = (medium.path for medium in places if os.path.isfile(medium.path))
        return next(there, places[0].path)


def _videos(path: str) -> Iterator[tuple[Any, Any]]:
    """(video_uid, nodes) of each video of a file."""
    if path.endswith(".json"):
        try:
            video = read_json(place(path), dict)
        except JSONError as error:
            raise UnreadableFile("damaged file", str(error)) from error
        if missing := [name for name in _COLUMNS if name not in video]:
            raise UnreadableFile("another schema", f"has no {', '.join(missing)}")
        values = [video[name] for name in _COLUMNS]
        # As published: each field is a list of one.
        yield tuple(value[0] for value in values) if isinstance(values[0], list) else tuple(values)
        return
    file = open_parquet(path)
    if missing := [name for name in _COLUMNS if name not in file.schema_arrow.names]:
        raise UnreadableFile("another schema", f"has no column {', '.join(missing)}")
    for number, row in parquet_rows(file, _COLUMNS):
        yield (row["video_uid"], row["nodes"]) if row is not None else (f"row {number}", None)


def _rows(video: str, path: str, nodes: list[Any]) -> Iterator[Record | Refused]:
    spans: dict[Medium, int] = {}
    annotations: list[Annotation] = []
    for number, node in enumerate(nodes):
        id = f"{video}/{node.get('node_id', number) if isinstance(node, Mapping) else number}"
        start, end = (field_of(node, side) for side in ("start", "end"))
        if not isinstance(start, (int, float)) or not isinstance(end, (int, float)):
            yield Refused(id, "another schema", "a node without start and end")
            continue
        if end <= start:
            yield Refused(id, "end before start", f"it ends at {end} s, but starts at {start} s")
            continue
        texts = {field: field_of(node, field) for field in _FIELDS}
        for field, text in texts.items():
            if text is None or (isinstance(text, str) and not text.strip()):
                continue
            if not isinstance(text, str) or text.strip() == "N/A":
                yield Refused(f"{id}/{field}", "no text", f"its {field} is {str(text)[:80]}")
                continue
            medium = Medium(path=path, start=float(start), end=float(end))
            inputs = (spans.setdefault(medium, len(spans)),)
            tags = {"field": field, "level": str(node.get("level"))}
            annotations.append(caption(f"{id}/{field}", text, inputs=inputs, tags=tags))
    if annotations:
        yield Record(video, tuple(spans), tuple(annotations))
    else:
        yield Refused(video, "no text", "none of its nodes has one")
