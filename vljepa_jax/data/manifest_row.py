r"""A row of a manifest: what a person writes about media, and adapters about public datasets.

    {"id": "a-1", "media": [{"path": "a.mp4", "start": 2, "end": 4.5}], "texts": ["a dog runs"]}
    {"id": "a-2", "media": [{"path": "a.mp4", "start": 2, "end": 4.5}],
     "query": "How many dogs?", "cand": ["one", "two"], "gold": 0, "tags": {"kind": "count"}}

Fields:
    id: text, unique.
    media: the inputs, in order: [{"path": ..., "start": seconds, "end": seconds}, ...]. A path is
        relative to the root; the file's content says what it is (kinds.py). Start and end may be
        left out. With "member" the path is a tar archive, uncompressed, and the medium the file of
        this name in it. Bytes of a name that are no UTF-8 are written as Python's JSON does,
        "\udce9".
    query: the question; the default is the ``query`` of the meta file, else none.
    texts: what is to be said, in several wordings of one meaning. For the task "triplet": two
        paraphrases and a negative. For "stream": one text per entry of ``times``.
    cand: candidate answers: a list of texts, "@labels/NAME", or a list of media.
    gold: index of the correct candidate.
    times: seconds, one per text, ascending.
    durations: seconds, one per entry of ``times``.
    tags: {"name": "value"} to filter and to tell apart in reports.
    task: "caption", "vqa", "classification", "state", "triplet" or "stream"; the default is the
        ``task`` of the meta file, else what the other fields say (``inferred_task``).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from vljepa_jax.config import nearest
from vljepa_jax.data.records import LABELS_PREFIX

_LONGEST_SECONDS = 1e7  # four months: beyond it a time is a mistake
_SHOWN = 80  # characters of a wrong value
TASKS = ("caption", "vqa", "classification", "state", "triplet", "stream")


class RowError(ValueError):
    """Why one row cannot be used: ``kind`` as in ``manifest.Fault``, and the reason."""

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind = kind


@dataclasses.dataclass(frozen=True)
class MediaEntry:
    """One entry of a row's "media": a file, or a member of an archive, and the span of it."""

    path: str
    member: str | None = None
    start: float | None = None
    end: float | None = None

    @classmethod
    def from_json(cls, fields: Any, where: str) -> MediaEntry:
        """Reads an entry.

        Args:
            where: the entry's name in messages, e.g. "media[0]".

        Raises:
            RowError: it is none.
        """
        if not isinstance(fields, dict):
            raise RowError("wrong type", f"{where} is no JSON object with a 'path'")
        _check_names(cls, fields, f"field of {where}")
        path = fields.get("path")
        if not isinstance(path, str) or not path:
            raise RowError("missing field", f"{where} has no 'path'")
        start, end = (
            None if fields.get(side) is None else _number(fields[side], f"{where}.{side}")
            for side in ("start", "end")
        )
        if start is not None and end is not None and end <= start:
            raise RowError("end before start", f"{where} ends at {end} s, but starts at {start} s")
        return cls(path, _typed(fields, "member", str, None), start, end)

    def as_json(self) -> dict[str, Any]:
        """The entry as JSON has it; what is not said is left out."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclasses.dataclass(frozen=True)
class ManifestRow:
    """One row, as far as it is known without its files; the fields are the module's."""

    id: str
    media: tuple[MediaEntry, ...] = ()
    query: str | None = None
    texts: tuple[str, ...] = ()
    cand: str | tuple[str, ...] | tuple[MediaEntry, ...] = ()
    gold: int | None = None
    times: tuple[float, ...] = ()
    durations: tuple[float, ...] = ()
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    task: str | None = None

    @classmethod
    def from_json(cls, fields: Any) -> ManifestRow:
        """Reads a row from what ``json.loads`` made of its line.

        Raises:
            RowError: a field is unknown, missing or of another type.
        """
        if not isinstance(fields, dict):
            raise RowError("wrong type", "the row is no JSON object")
        _check_names(cls, fields, "field")
        name = _typed(fields, "id", str, None)
        if not name:
            raise RowError("missing field", "'id' is missing or empty")
        check_text(name, "'id'", name=True)
        texts = tuple(_list_of(fields, "texts", str))
        for index, text in enumerate(texts):
            if not text.strip():
                raise RowError("empty text", f"texts[{index}] is empty")
            check_text(text, f"texts[{index}]")
        query = _typed(fields, "query", str, None)
        check_text(query or "", "'query'")
        tags = {str(k): str(v) for k, v in _typed(fields, "tags", dict, {}).items()}
        for tag in tags.items():
            check_text("=".join(tag), "'tags'")
        return cls(
            id=name,
            media=_media(_list_of(fields, "media"), "media"),
            query=query,
            texts=texts,
            cand=_candidates(fields.get("cand")),
            gold=_typed(fields, "gold", int, None),
            times=_numbers(fields, "times"),
            durations=_numbers(fields, "durations"),
            tags=tags,
            task=_typed(fields, "task", str, None),
        )

    def as_json(self) -> dict[str, Any]:
        """The row as JSON has it, from which ``from_json`` reads it; what is empty is left out."""
        plain = vars(self) | {"media": _plain(self.media), "cand": _plain(self.cand)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in plain.items()
            if value not in (None, (), [], {}, "") or (name, value) == ("query", "")
        }

    @property
    def inferred_task(self) -> str:
        """The task of a row that does not name it.

        ``times``: stream; three texts without media: triplet; candidates that are media: state,
        that are texts: vqa with a query of the row, classification without; else caption.
        """
        if self.times:
            return "stream"
        if not self.media and len(self.texts) == 3:
            return "triplet"
        if self.cand and isinstance(self.cand[0], MediaEntry):
            return "state"
        if self.cand:
            return "vqa" if self.query else "classification"
        return "caption"


def _plain(entries: str | tuple[Any, ...]) -> str | list[Any]:
    if isinstance(entries, str):
        return entries
    return [e.as_json() if isinstance(e, MediaEntry) else e for e in entries]


def _media(entries: list[Any], where: str) -> tuple[MediaEntry, ...]:
    return tuple(MediaEntry.from_json(e, f"{where}[{i}]") for i, e in enumerate(entries))


def _candidates(candidates: Any) -> str | tuple[str, ...] | tuple[MediaEntry, ...]:
    if candidates is None:
        return ()
    if isinstance(candidates, str) and candidates.startswith(LABELS_PREFIX):
        return candidates
    if not isinstance(candidates, list):
        raise RowError("wrong type", f"'cand' is a list, or '{LABELS_PREFIX}NAME'")
    if all(isinstance(candidate, str) for candidate in candidates):
        if not all(candidate.strip() for candidate in candidates):
            raise RowError("empty text", "a candidate is empty")
        for index, candidate in enumerate(candidates):
            check_text(candidate, f"cand[{index}]")
        return tuple(candidates)
    return _media(candidates, "cand")


def _check_names(kind: type, fields: Mapping[str, Any], what: str) -> None:
    known = [field.name for field in dataclasses.fields(kind)]
    for key in fields:
        if key not in known:
            raise RowError("unknown field", f"unknown {what}: '{key}'{nearest(key, known)}")


def _typed(fields: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = fields.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {str: "text", int: "an integer", dict: "an object"}
        raise RowError("wrong type", f"'{key}' must be {names[kind]}, got {told(value)}")
    return value


def _list_of(fields: Mapping[str, Any], key: str, kind: type | None = None) -> list[Any]:
    value = fields.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or (kind and not all(isinstance(v, kind) for v in value)):
        of = " of texts" if kind is str else ""
        raise RowError("wrong type", f"'{key}' must be a list{of}, got {told(value)}")
    return value


def _numbers(fields: Mapping[str, Any], key: str) -> tuple[float, ...]:
    return tuple(_number(t, f"{key}[{i}]") for i, t in enumerate(_list_of(fields, key)))


def _number(value: Any, where: str) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not abs(value) <= _LONGEST_SECONDS:  # nor is NaN
        raise RowError(
            "wrong type",
            f"{where} must be a number of seconds, at most {_LONGEST_SECONDS:g}, got {told(value)}",
        )
    return float(value)


def check_text(text: str, where: str, *, name: bool = False) -> None:
    """A text that a tokenizer and a report take: one with half of a character is none.

    Args:
        name: whether it may be that of a file, whose bytes that are no UTF-8 Python has so.

    Raises:
        RowError: it is none.
    """
    try:
        text.encode(errors="surrogateescape" if name else "strict")
    except UnicodeEncodeError as error:
        raise RowError(
            "no text", f"{where} holds {text[error.start]!r}, half a character"
        ) from error


def told(value: Any) -> str:
    """A wrong value, as JSON, its beginning if it is long."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
