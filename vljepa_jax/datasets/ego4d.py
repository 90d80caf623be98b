"""Ego4D's narrations: what the camera wearer does, each at a moment of a video."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from vljepa_jax.data.records import Medium, Record
from vljepa_jax.data.shares import (
    Piece,
    RecordSource,
    Refused,
    SourceError,
    UnreadableFile,
    leads_out,
    medium_below,
    paths_below,
)
from vljepa_jax.datasets.columns import caption, field_of

_PASSES = ("narration_pass_1", "narration_pass_2")
# Who acts: "#C C opens the door" is of the camera wearer, "#O A man X ..." of another.
_ACTOR = re.compile(r"^\s*#([A-Za-z]+)\s+")
_UNSURE = "#unsure"
_BLOCK = 1 << 20  # characters that are read at a time


@dataclasses.dataclass(frozen=True)
class Ego4D(RecordSource):
    """``narration.json`` (or ``narrations.json``), and the videos, ``full_scale/UID.mp4``.

    A record is a narration: the span from ``reach`` seconds before its moment to as many after,
    which is ours, as the official file has moments alone. The mark of who acts is cut off and kept
    (tags.actor). Texts with "#unsure", which stands for a word, are refused.

    Attributes:
        root: the folder.
        reach: seconds.
    """

    reach: float = 1.0

    def pieces(self) -> Iterator[Piece]:
        paths = paths_below(self.root, ("narration.json", "narrations.json"))
        if len(paths) > 1:
            raise SourceError(f"there are {len(paths)} files of narrations: {', '.join(paths)}")
        return map(Piece, paths)

    def read(self, piece: Piece) -> Iterator[Record | Refused]:
        for video, passes in json_items(piece.path):
            path = self._path(video)
            if path is None:
                yield leads_out(video, video)
                continue
            for name in _PASSES:
                narrations = field_of(passes, f"{name}.narrations")
                for number, narration in enumerate(narrations or ()):
                    yield self._row(f"{video}/{name[-1]}/{number}", path, narration)

    def _path(self, video: str) -> str | None:
        places = [
            medium_below(self.root, os.path.join(folder, f"{video}.mp4"))
            for folder in ("full_scale", "video_540ss", "videos")
        ]
        if None in places:
            return None
        there = (medium.path for medium in places if os.path.isfile(medium.path))
        return next(there, places[0].path)

    def _row(self, id: str, path: str, narration: Any) -> Record | Refused:
        moment, text = (field_of(narration, name) for name in ("timestamp_sec", "narration_text"))
        if not isinstance(moment, (int, float)) or not isinstance(text, str):
            return Refused(id, "another schema", f"a narration is {str(narration)[:80]}")
        if _UNSURE in text.lower():
            return Refused(id, "unsure", text)
        actor = _ACTOR.match(text)
        said = _ACTOR.sub("", text).strip()
        if not said:
            return Refused(id, "no text", f"'{text}'")
        medium = Medium(path=path, start=moment - self.reach, end=moment + self.reach)
        tags = {"actor": actor[1]} if actor else {}
        return Record(id, (medium,), (caption(id, said, tags=tags),))


def json_items(path: str) -> Iterator[tuple[str, Any]]:
    """The entries of the object that a JSON file holds, one after another, in the memory of one.

    Raises:
        UnreadableFile: it holds no whole object, or is not in UTF-8.
    """
    decoder, text, position = json.JSONDecoder(), "", 0
    with open(path, encoding="utf-8-sig") as file:

        def after_space(expected: str) -> str:
            """The next character that is no space, consumed if expected; reads on as need be."""
            nonlocal text, position
            while True:
                while position < len(text) and text[position].isspace():
                    position += 1
                if position < len(text):
                    found = text[position]
                    position += found in expected
                    return found
                text, position = file.read(_BLOCK), 0
                if not text:
                    raise UnreadableFile("damaged file", "ends before its JSON does")

        def value() -> Any:
            nonlocal text, position
            while True:
                try:
                    found, end = decoder.raw_decode(text, position)
                    # A number at the end of the block may go on behind it.
                    if end < len(text) or not isinstance(found, (int, float)):
                        position = end
                        return found
                except json.JSONDecodeError:
                    pass  # it may go on behind what was read, which the end of the file settles
                more = file.read(max(_BLOCK, len(text)))
                if not more:
                    raise UnreadableFile("damaged file", "ends before its JSON does, or is none")
                text, position = text[position:] + more, 0

        try:
            if after_space("{") != "{":
                raise UnreadableFile("another schema", "is no JSON object")
            while after_space("},") != "}":
                after_space("")
                key = value()
                if after_space(":") != ":" or not isinstance(key, str):
                    raise UnreadableFile("damaged file", "is no JSON")
                after_space("")
                yield key, value()
        except UnicodeDecodeError as error:
            raise UnreadableFile("text is not UTF-8", str(error)) from error
