"""The files of an index: a header, and shards of embeddings with what they are of.

See ``index``, which says how they change.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import dacite
import numpy as np

from vljepa_jax.data.arrays import load_array
from vljepa_jax.data.collection import Item, Place, Span
from vljepa_jax.data.records import Medium
from vljepa_jax.json_text import JSONError, read_json

FORMAT = 1
HEADER = "index.json"
# What building an object of a wrong document raises.
_MALFORMED = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError)


class SearchIndexError(ValueError):
    """An index that cannot be used; the message names it and the mend."""


@dataclasses.dataclass(frozen=True)
class IndexSettings:
    """Settings that all embeddings of an index have in common.

    Attributes:
        model: fingerprint of the model (``Embedder.fingerprint``).
        size: dimensions of the embeddings.
        query: X_Q under which all clips were embedded.
        frames: taken of each clip.
        window: seconds of a window; 0 embeds clips whole.
        stride: seconds from one window to the next.
    """

    model: str
    size: int
    query: str
    frames: int
    window: float
    stride: float


@dataclasses.dataclass(frozen=True)
class Entry:
    """One clip of an index.

    Attributes:
        item: where it is.
        stamp: of its content when it was embedded.
        spans: seconds of each of its rows; ``None`` for the whole.
        novelty: of each row (``Calibration.novelty``); () where the model had no calibration.
    """

    item: Item
    stamp: str
    spans: tuple[Span | None, ...]
    novelty: tuple[float, ...] = ()


class Shard:
    """One pair of files; the embeddings are mapped when they are asked for."""

    def __init__(self, path: Path, size: int | None) -> None:
        """``size``: dimensions to check the embeddings by; ``None`` does not look at them."""
        self.path = path
        try:
            self.entries = [_entry(fields) for fields in read_json(path, list)]
        except JSONError as error:
            raise SearchIndexError(f"{error}; delete it, and embed again") from error
        except _MALFORMED as error:
            raise SearchIndexError(
                f"{path}: is no shard of an index ({error!r}); delete it, and embed again"
            ) from error
        if size is not None:
            expected = (sum(len(entry.spans) for entry in self.entries), size)
            found = self.embeddings().shape
            if found != expected:
                raise SearchIndexError(
                    f"{path.with_suffix('.npy')}: has shape {list(found)}, where {path.name} "
                    f"tells {list(expected)}; delete both and embed again"
                )

    def embeddings(self) -> np.ndarray:
        path = self.path.with_suffix(".npy")
        some = any(entry.spans for entry in self.entries)  # nothing cannot be mapped
        try:
            return load_array(path, mmap_mode="r" if some else None)
        except Exception as error:  # numpy raises nearly any kind on a damaged header
            raise SearchIndexError(
                f"{path}: cannot be read ({error}); delete it and {self.path.name}, and embed again"
            ) from error

    def rows(self) -> Iterator[tuple[Entry, int]]:
        """The entries with their first rows."""
        first = 0
        for entry in self.entries:
            yield entry, first
            first += len(entry.spans)


def shard_paths(directory: Path) -> list[Path]:
    paths = [path for path in directory.glob("*.json") if path.stem.isdigit()]
    return sorted(paths, key=lambda path: int(path.stem))


def read_header(directory: Path) -> tuple[IndexSettings, str]:
    path = directory / HEADER
    if not path.is_file():
        raise SearchIndexError(f"'{directory}' is no index; launch/embed.py makes one")
    mend = "embed the collection into another --output"
    try:
        fields = read_json(path, dict)
    except JSONError as error:
        raise SearchIndexError(f"{error}; {mend}") from error
    if fields.get("format") != FORMAT:
        raise SearchIndexError(
            f"{path}: is of form {fields.get('format')}, this version reads form {FORMAT}"
        )
    try:
        settings = {field.name: fields[field.name] for field in dataclasses.fields(IndexSettings)}
        # A whole number of seconds is a number too.
        made = dacite.from_dict(IndexSettings, settings, dacite.Config(cast=[float]))
        return made, os.fspath(fields["checkpoint"])
    except (*_MALFORMED, dacite.DaciteError) as error:
        raise SearchIndexError(f"{path}: is no header of an index ({error!r}); {mend}") from error


def check_same(directory: Path, settings: IndexSettings) -> None:
    made, checkpoint = read_header(directory)
    differing = [
        f"{field.name}: {getattr(made, field.name)!r} in the index, "
        f"{getattr(settings, field.name)!r} here"
        for field in dataclasses.fields(IndexSettings)
        if getattr(made, field.name) != getattr(settings, field.name)
    ]
    if differing:
        raise SearchIndexError(
            f"'{directory}' was made in another way, from '{checkpoint}':\n  "
            + "\n  ".join(differing)
            + "\nTake the same, or another --output."
        )


def to_fields(entry: Entry) -> dict:
    fields = dataclasses.asdict(entry)
    for medium in fields["item"]["media"]:
        del medium["data"]  # empty: bytes stay in the dataset, to which the place leads
    return fields


def _entry(fields: dict) -> Entry:
    """Raises one of ``_MALFORMED`` for what is no entry."""
    item, place = fields["item"], fields["item"]["place"]
    media = tuple(Medium(**medium) for medium in item["media"])
    for text in (item["name"], fields["stamp"], *(medium.path for medium in media)):
        if not isinstance(text, str):
            raise TypeError(f"{text!r} is no text")
    return Entry(
        Item(item["name"], media, place and Place(**{**place, "inputs": tuple(place["inputs"])})),
        fields["stamp"],
        tuple(span and (float(span[0]), float(span[1])) for span in fields["spans"]),
        tuple(map(float, fields.get("novelty", ()))),
    )
