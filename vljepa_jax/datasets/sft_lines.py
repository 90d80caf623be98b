"""PLM's fine-tuning data: JSON lines of conversations about images and videos."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

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
from vljepa_jax.datasets.columns import caption_record, conversation_rows
from vljepa_jax.json_text import JSONError, parse_json

_PIECE_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True)
class SFTLines(RecordSource):
    """Files ``*.jsonl`` below a folder.

    A line is {"image": path or list of them, "conversations": [...]}, with "video" in the image's
    place and maybe "start_time" and "end_time" in seconds, or with "text", a caption, in that of
    the conversation. Lines without media, and those about regions of a picture ("bbox"), which the
    model is not shown, are refused.

    Attributes:
        root: the folder; paths of media start there.
        task: of conversations, as ``columns.conversation_rows``.
    """

    task: str = ""

    def pieces(self) -> Iterator[Piece]:
        for path in paths_below(self.root, (".jsonl",)):
            yield from line_pieces(path, _PIECE_BYTES)

    def read(self, piece: Piece) -> Iterator[Record | Refused]:
        name = os.path.relpath(piece.path, self.root).removesuffix(".jsonl")
        for position, line in lines(piece):
            if not line.strip():
                continue
            id = f"{name}:{position}"
            text = decoded(line)
            if text is None:
                yield Refused(id, "text is not UTF-8", "the line")
                continue
            try:
                row = parse_json(text)
            except JSONError as error:
                yield Refused(id, "no JSON", f"the line {error}")
                continue
            yield from self._row(id, row)

    def _row(self, id: str, row: Any) -> Iterator[Record | Refused]:
        if not isinstance(row, Mapping):
            yield Refused(id, "another schema", "the line is no JSON object")
            return
        if row.get("bbox") or row.get("bbox_map"):
            yield Refused(id, "about a region", "the model is not shown regions")
            return
        media = self._media(id, row)
        if isinstance(media, Refused):
            yield media
        elif "conversations" in row:
            yield from conversation_rows(id, media, row["conversations"], self.task)
        else:
            yield caption_record(id, media, row.get("text"))

    def _media(self, id: str, row: Mapping[str, Any]) -> tuple[Medium, ...] | Refused:
        paths = row.get("image") or row.get("video")
        paths = [paths] if isinstance(paths, str) else paths
        if not paths:
            return Refused(id, "no image", "neither 'image' nor 'video'")
        start, end = row.get("start_time"), row.get("end_time")
        spans = [value for value in (start, end) if value is not None]
        sound = isinstance(paths, list) and all(isinstance(path, str) for path in paths)
        if not sound or not all(isinstance(value, (int, float)) for value in spans):
            return Refused(id, "another schema", "its paths or times are of another type")
        if len(spans) == 2 and end <= start:
            return Refused(id, "end before start", f"it ends at {end} s, but starts at {start} s")
        media = []
        for path in paths:
            if (medium := medium_below(self.root, path, start=start, end=end)) is None:
                return leads_out(id, path)
            media.append(medium)
        return tuple(media)
