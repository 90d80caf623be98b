"""Which column means what, and the manifest rows that a table's rows become.

A row has a medium, and something said of it: captions, a label, or a question with its answer,
which may stand among the texts, as a manifest has it. A label is one of all labels of the table. A
question whose row has no candidates is an open one: its candidates are all answers of the table.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vljepa_jax.config import nearest
from vljepa_jax.data.manifest_row import ManifestRow, MediaEntry
from vljepa_jax.data.records import LABELS_PREFIX, Medium, shown
from vljepa_jax.data.video import read_frames, write_mp4
from vljepa_jax.finetuning.tables import Row, Table, TableError

# What a column means -> the names by which it is found, without regard to case, "-" and " ".
ROLES = {
    "media": (
        *("media", "video", "videos", "video_path", "path", "file", "file_name", "filename"),
        *("file_path", "filepath", "clip", "clip_path", "mp4", "image", "image_path", "img"),
    ),
    "texts": (
        *("texts", "text", "caption", "captions", "description", "descriptions"),
        *("sentence", "sentences"),
    ),
    "label": ("label", "class", "class_name", "category", "action"),
    "query": ("query", "question"),
    "answer": ("answer", "answers"),
    "cand": ("cand", "candidates", "choices", "options"),
    "gold": ("gold", "answer_index", "answer_idx", "correct"),
    "start": ("start", "start_time", "start_sec", "start_seconds", "begin"),
    "end": ("end", "end_time", "end_sec", "end_seconds", "stop"),
    "split": ("split", "subset", "partition"),
    "id": ("id", "clip_id", "uid"),
}
_SAID = "texts (captions), label, or query with answer, or with cand and gold"
_FRAMES_PER_SECOND = 8  # of a video that comes as pictures, which say none


@dataclasses.dataclass(frozen=True)
class Example:
    """What a row of a table says, one manifest row a task.

    Attributes:
        media: the files, or hashes of embedded ones: what examples may share.
        split: as the table says; "" where it does not.
        label: of a classification; "" where there is none.
        rows: of a manifest.
    """

    media: tuple[str, ...]
    split: str
    label: str
    rows: tuple[ManifestRow, ...]


@dataclasses.dataclass(frozen=True)
class Examples:
    """All examples of a table.

    Attributes:
        examples: in the order of the rows.
        labels: set name -> its texts.
        faults: why rows were left out: (number of the row, from 1, reason).
    """

    examples: tuple[Example, ...]
    labels: Mapping[str, tuple[str, ...]]
    faults: tuple[tuple[int, str], ...]


def choose_columns(table: Table, named: Mapping[str, str]) -> dict[str, str]:
    """Role -> the column that has it.

    Args:
        named: roles and columns that the user names; a role with "" has none.

    Raises:
        TableError: a role or a column is unknown, or what is needed was not found.
    """
    for role, column in named.items():
        if role not in ROLES:
            known = f"there are {', '.join(ROLES)}"
            raise TableError(f"--columns: '{role}' is no role{nearest(role, ROLES)}; {known}")
        if column and column not in table.columns:
            raise TableError(
                f"--columns: {_has(table)}, and none is called '{column}'"
                f"{nearest(column, table.columns)}"
            )
    simple = {re.sub(r"[\s-]+", "_", c.strip().lower()): c for c in reversed(table.columns)}
    taken = set(named.values())
    chosen = {role: column for role, column in named.items() if column}
    for role, names in ROLES.items():
        found = (simple[name] for name in names if name in simple and simple[name] not in taken)
        if role not in named and (column := next(found, None)):
            chosen[role] = column
            taken.add(column)
    if "media" not in chosen:
        raise TableError(
            f"{_has(table)}; which one names the videos or images? Looked for "
            f"{', '.join(ROLES['media'])}. Name it: --columns=media=COLUMN"
        )
    asked = "query" in chosen and ("answer" in chosen or {"cand", "gold"} <= chosen.keys())
    if not (asked or "texts" in chosen or "label" in chosen):
        raise TableError(
            f"{_has(table)}; none says anything about the media. Wanted is {_SAID}. Name it: "
            f"--columns=media={chosen['media']},texts=COLUMN"
        )
    return chosen


def _has(table: Table) -> str:
    return f"{shown(str(table.path))} has the columns {', '.join(map(repr, table.columns))}"


def read_examples(table: Table, columns: Mapping[str, str], folder: pathlib.Path) -> Examples:
    """Reads a table's rows.

    Args:
        columns: from ``choose_columns``.
        folder: where media that the table itself holds are written, each once.

    Raises:
        TableError: no row can be used, or there is one class, or one answer, alone.
    """
    read, faults = [], []
    for number, row in enumerate(table.rows, 1):
        values = {role: row.get(column) for role, column in columns.items()}
        try:
            read.append((number, _Reader(values, table.root, folder)))
        except ValueError as error:
            faults.append((number, str(error)))
    if not read:
        why = f": row {faults[0][0]}: {faults[0][1]}" if faults else ""
        raise TableError(f"{shown(str(table.path))}: no row can be used{why}")
    sets = {
        "labels": _distinct(table, "label", [r.label for _, r in read if r.label]),
        "answers": _distinct(table, "answer", [r.answers[0] for _, r in read if r.is_open]),
    }
    ids = Counter(r.id for _, r in read)
    examples = tuple(
        r.example(r.id if r.id and ids[r.id] == 1 else f"{r.id or 'row'}-{number}", sets)
        for number, r in read
    )
    return Examples(examples, {name: own for name, own in sets.items() if own}, tuple(faults))


def _distinct(table: Table, role: str, found: Sequence[str]) -> tuple[str, ...]:
    texts = tuple(sorted(set(found)))
    if len(texts) == 1:
        raise TableError(
            f"{shown(str(table.path))}: all rows have the {role} '{shown(texts[0])}', so that "
            "there is nothing to tell apart: give clips of two at least"
        )
    return texts


class _Reader:
    """One row, as far as it is known without the others; raises ValueError where it is unusable."""

    def __init__(self, values: Row, root: pathlib.Path, folder: pathlib.Path) -> None:
        self.id = _text(values.get("id"))
        self.split = _text(values.get("split"))
        self.texts = _texts(values.get("texts"))
        self.label = _text(values.get("label"))
        self.query = _text(values.get("query"))
        self.answers = _texts(values.get("answer"))
        self.candidates = _candidates(values.get("cand"))
        self.gold = None
        if self.query.endswith("?") and not (self.answers or self.candidates):
            self.answers, self.texts = self.texts, ()  # as manifests have an open question
        if self.query and self.candidates:
            self.gold = _gold(values.get("gold"), self.answers, self.candidates)
        if not (self.texts or self.label or self.gold is not None or self.is_open):
            raise ValueError(f"says nothing: it has none of {_SAID}")
        span = {side: _seconds(values.get(side), side) for side in ("start", "end")}
        self.media = tuple(_media(values["media"], root, folder, span))

    @property
    def is_open(self) -> bool:
        """Whether it asks a question to which it gives an answer, but no candidates."""
        return bool(self.query and self.answers and not self.candidates)

    def example(self, name: str, sets: Mapping[str, Sequence[str]]) -> Example:
        """Args: ``sets``: label set -> its texts, sorted."""
        rows = []

        def add(kind: str, **fields: Any) -> None:
            rows.append(ManifestRow(id=f"{name}-{kind}", media=self.media, task=kind, **fields))

        if self.texts:  # what is asked of them, unless it is a question that has its own answer
            asked = self.query if not (self.answers or self.candidates) else None
            add("caption", texts=self.texts, query=asked or None)
        if self.label:
            cand, gold = f"{LABELS_PREFIX}labels", sets["labels"].index(self.label)
            add("classification", cand=cand, gold=gold)
        if self.is_open:
            cand, gold = f"{LABELS_PREFIX}answers", sets["answers"].index(self.answers[0])
            add("vqa", query=self.query, texts=self.answers, cand=cand, gold=gold)
        elif self.gold is not None:
            add("vqa", query=self.query, cand=self.candidates, gold=self.gold)
        paths = tuple(dict.fromkeys(entry.path for entry in self.media))
        return Example(paths, self.split, self.label, tuple(rows))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, float) and math.isnan(value):  # as tables have what is missing
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None or value == [] else str(value).strip()


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(dict.fromkeys(filter(None, map(_text, values))))


def _candidates(value: Any) -> tuple[str, ...]:
    """Of a list; of a text with a JSON list, or with "|" or ";" between them."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip().startswith("[") else re.split(r"[|;]", value)
        except ValueError as error:
            raise ValueError(f"the candidates {value!r} are no list ({error})") from error
    return _texts(value)


def _gold(value: Any, answers: Sequence[str], candidates: Sequence[str]) -> int:
    """The index of the answer: its text, its number from 0, or its letter from A."""
    given = _text(value) or next(iter(answers), "")
    if given in candidates:
        return candidates.index(given)
    if re.fullmatch(r"[A-Za-z]", given):
        given = str(ord(given.upper()) - ord("A"))
    if given.isdecimal() and int(given) < len(candidates):
        return int(given)
    raise ValueError(f"the answer {given!r} is none of the candidates {', '.join(candidates)}")


def _seconds(value: Any, side: str) -> float | None:
    text = _text(value)
    try:
        return float(text) if text else None
    except ValueError:
        raise ValueError(f"'{side}' is {text!r}, not a number of seconds") from None


def _media(
    value: Any, root: pathlib.Path, folder: pathlib.Path, span: Mapping[str, float | None]
) -> Iterator[MediaEntry]:
    """Of a path, of bytes, of Hugging Face's {"bytes", "path"}, of a manifest's entries."""
    values = value if isinstance(value, list) else [value]
    if len(values) > 1 and all(isinstance(each, bytes) for each in values):
        yield MediaEntry(str(_kept(_video_of(values), folder)), **span)
        return
    for each in values:
        if isinstance(each, Mapping):
            fields = each
        else:
            fields = {"bytes": each} if isinstance(each, bytes) else {"bytes": None, "path": each}
        path = _text(fields.get("path"))
        if isinstance(fields.get("bytes"), bytes):
            entry = MediaEntry(str(_kept(fields["bytes"], folder)), **span)
        elif not path:
            raise ValueError("names no video or image")
        elif "bytes" in fields:
            entry = MediaEntry(str((root / path).absolute()), **span)
        else:  # of a manifest
            entry = MediaEntry.from_json({**fields, "path": str((root / path).absolute())}, "media")
        if entry.start is not None and entry.end is not None and entry.end <= entry.start:
            raise ValueError(f"ends at {entry.end} s, but starts at {entry.start} s")
        if not os.path.isfile(entry.path):
            raise ValueError(f"there is no file {entry.path} (relative paths start at --root)")
        yield entry


def _kept(data: bytes, folder: pathlib.Path) -> pathlib.Path:
    """The file of embedded media, named by its content: the same twice is one.

    It has no extension: what is in it says what it is, and names of others are not to be trusted.
    """
    path = folder / hashlib.blake2b(data, digest_size=16).hexdigest()
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".tmp").write_bytes(data)
        path.with_suffix(".tmp").replace(path)
    return path.absolute()


def _video_of(pictures: Sequence[bytes]) -> bytes:
    """A video of encoded pictures of one size, without an odd last row or column."""
    frames = [read_frames(Medium(data=picture), [0.5], np.asarray)[0] for picture in pictures]
    _, height, width, _ = (stacked := np.stack(frames)).shape
    return write_mp4(stacked[:, : height // 2 * 2, : width // 2 * 2], _FRAMES_PER_SECOND)
