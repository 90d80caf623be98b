"""Columns of samples: which is the picture, which the text; captions and conversations of them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vljepa_jax.config import nearest
from vljepa_jax.data.records import Annotation, Medium, Record
from vljepa_jax.data.shares import Refused, SourceError

# What stands in a question in the place of its picture (PLM, LLaVA).
_PLACES = re.compile(r"<(?:image|video)>\s*")
_HUMAN, _ASSISTANT = ("human", "user"), ("assistant", "gpt")


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of columns; of a webdataset, endings of its members' names.

    Attributes:
        image: of the picture or the video; "" for what there usually is.
        text: of the caption; "NAME.FIELD" is a field of a JSON column, "" as above.
        conversations: of turns of people and assistants; likewise.
    """

    image: str = ""
    text: str = ""
    conversations: str = ""

    @classmethod
    def parse(cls, entries: Sequence[str]) -> Columns:
        """Reads "image=jpg", "text=json.recaption" and the like.

        Raises:
            SourceError: one is none.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        given = {}
        for entry in entries:
            name, equals, value = entry.partition("=")
            if name not in names or not equals:
                raise SourceError(
                    f"--columns: '{entry}' is none of {', '.join(names)} with =NAME"
                    f"{nearest(name, names)}"
                )
            given[name] = value
        return cls(**given)


def find_column(names: Sequence[str], wanted: str, usual: Sequence[str]) -> str | None:
    """The column that is asked for, or the first of the usual ones that is there."""
    if wanted:
        return wanted if wanted.partition(".")[0] in names else None
    return next((name for name in usual if name.partition(".")[0] in names), None)


def field_of(value: Any, path: str) -> Any:
    """The field of a JSON value, "a.b"; the value itself for "", ``None`` where it is not there."""
    if isinstance(value, (bytes, str)) and path:
        value = json.loads(value)
    for name in filter(None, path.split(".")):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def caption_record(id: str, media: tuple[Medium, ...], text: Any) -> Record | Refused:
    """A record with one caption."""
    if not isinstance(text, str):
        return Refused(id, "another schema", f"its text is {type(text).__name__}")
    if not text.strip():
        return Refused(id, "no text", "its text is empty")
    return Record(id, media, (caption(id, text, inputs=tuple(range(len(media)))),))


def caption(
    id: str,
    text: str,
    *,
    inputs: tuple[int, ...] = (0,),
    tags: Mapping[str, str] | None = None,
) -> Annotation:
    """One caption, without outer spaces."""
    return Annotation(id, "caption", texts=(text.strip(),), inputs=inputs, tags=dict(tags or {}))


def conversation_rows(
    id: str, media: tuple[Medium, ...], turns: Any, task: str
) -> Iterator[Record | Refused]:
    """A record of a conversation, with an annotation for each turn of the assistant.

    Its query is what the human said just before, without the places of pictures; earlier turns are
    not part of it.

    Args:
        turns: [{"from": "human" or "assistant", "value": text}, ...], or with "role", "content".
        task: of the annotations; "" for "vqa" with a query and "caption" without.
    """
    if not isinstance(turns, (list, tuple)) or not all(isinstance(t, Mapping) for t in turns):
        yield Refused(id, "another schema", "its conversation is no list of turns")
        return
    annotations, query = [], ""
    for number, turn in enumerate(turns):
        speaker = turn.get("from", turn.get("role"))
        text = turn.get("value", turn.get("content"))
        name = f"{id}/{number}"
        if speaker not in _HUMAN + _ASSISTANT or not isinstance(text, str):
            yield Refused(name, "another schema", f"a turn is {str(dict(turn))[:80]}")
        elif speaker in _HUMAN:
            query = _PLACES.sub("", text).strip()
        elif not text.strip():
            yield Refused(name, "no text", "the answer is empty")
        else:
            inputs = tuple(range(len(media)))
            own = task or ("vqa" if query else "caption")
            annotations.append(Annotation(name, own, query, (text.strip(),), inputs))
            query = ""
    if annotations:
        yield Record(id, media, tuple(annotations))
    elif not turns:
        yield Refused(id, "no text", "its conversation is empty")
