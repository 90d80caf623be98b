"""Texts that others wrote: their encodings, and JSON that any reader of this package can use.

Python's parser takes what readers then stumble over: a nesting as deep as its stack, numbers of
thousands of digits, bytes in other encodings.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from vljepa_jax.places import AnyPath

T = TypeVar("T")

_DEEPEST = 100  # lists and objects in each other
_NAMES = {dict: "an object", list: "a list"}


class JSONError(ValueError):
    """No JSON document that can be used; the message says why, and of a file which."""


def parse_json(text: str | bytes) -> Any:
    """A JSON document.

    Args:
        text: if bytes, in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        JSONError: it is none, or nested deeper than 100 times.
    """
    try:
        document = json.loads(text)
    except UnicodeDecodeError as error:
        raise JSONError(f"is not in UTF-8 ({error.reason} at byte {error.start})") from error
    except ValueError as error:  # a number of thousands of digits too
        raise JSONError(f"is no JSON ({error})") from error
    except RecursionError as error:
        raise JSONError(f"is nested deeper than {_DEEPEST} times") from error
    level, depth = [document], 0
    while level := [child for node in level for child in _children(node)]:
        depth += 1
        if depth > _DEEPEST:
            raise JSONError(f"is nested deeper than {_DEEPEST} times")
    return document


def read_json(path: AnyPath, kind: type[T]) -> T:
    """The document of a file.

    Args:
        kind: ``dict`` or ``list``, which it must be.

    Raises:
        JSONError: the file cannot be read, or is no JSON of this kind; the message names it.
    """
    try:
        document = parse_json(path.read_bytes())
    except OSError as error:
        raise JSONError(f"{path}: cannot be read ({error.strerror or error})") from error
    except JSONError as error:
        raise JSONError(f"{path}: {error}") from error
    if not isinstance(document, kind):
        raise JSONError(f"{path}: is JSON, but not {_NAMES[kind]}")
    return document


def is_encoding(name: str) -> bool:
    """Whether Python reads texts in it; some of its codecs are not of texts."""
    try:
        "".encode(name)
    except LookupError:
        return False
    return True


def text_encoding(path: AnyPath) -> str:
    """The encoding of a text file: UTF-8, or UTF-16 or UTF-32 where its first letters tell.

    A byte order mark does, and so do letters of ASCII without one.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return json.detect_encoding(file.read(4))


def other_encoding(path: AnyPath | str, encoding: str, error: UnicodeError) -> str:
    """What to say of a text file that is not in its encoding."""
    return (
        f"{path}: is not in {encoding} ({error}): save it in UTF-8, or name its encoding, e.g. "
        "--encoding=cp1252"
    )


def _children(node: Any) -> list[Any]:
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [value for value in values if isinstance(value, (dict, list))]
