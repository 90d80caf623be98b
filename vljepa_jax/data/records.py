"""The record: one medium, or a few, with everything that is asked or said about it.

A video with ten questions is stored once. A record holds its media (encoded bytes, a path, or a
member of an archive, each with a span) and a list of annotations; an annotation is one training or
evaluation example. On disk the two lie apart (``shards``): a media record, and its annotations.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Mapping

from vljepa_jax.places import without_login

# Candidates given as "@labels/NAME" refer to a label set that the dataset stores once.
LABELS_PREFIX = "@labels/"
# Names of splits begin names of files and folders.
SPLIT_NAME = re.compile(r"\w[\w.-]{0,99}")
# A frame counts as shown from this long before its timestamp: containers round timestamps, to
# 1 ms in Matroska, and a moment that falls on a frame's edge must give the same frame in each.
ROUNDING = 6e-4  # seconds


@dataclasses.dataclass(frozen=True)
class Medium:
    """One encoded video or image: bytes, a file, or a part of a file.

    Attributes:
        data: the encoded file (mp4, webm, gif, png, ...); empty when ``path`` is set.
        path: absolute path of the file, or of the archive (tar); empty when ``data`` is set.
        start: seconds; ``None`` is the beginning. May be negative: such moments show the
            first frame.
        end: seconds, exclusive; ``None`` is the end of the file.
        offset: bytes of the file before the medium, as a member of an archive has.
        length: bytes of the medium; ``None`` is the whole file.
    """

    data: bytes = b""
    path: str = ""
    start: float | None = None
    end: float | None = None
    offset: int = 0
    length: int | None = None

    @property
    def source(self) -> str:
        """The place that it is read from, for people: the file, and which bytes of it."""
        if not self.path:
            return f"embedded file of {len(self.data)} bytes"
        if self.length is None:
            return self.path
        return f"{self.path} [bytes {self.offset}-{self.offset + self.length}]"


class ClipError(ValueError):
    """A medium that cannot be read; the message, one line, names the file and the reason."""

    def __init__(self, message: str):
        super().__init__(shown(message))


def shown(text: str) -> str:
    r"""Text with a name in it, as one line that any terminal, file or picture takes.

    File names are bytes, which Python keeps in a str: those that are no UTF-8 as lone surrogates.
    Such bytes, line breaks and other control characters become escapes (``caf\xe9``, ``\n``),
    for people to read; what is stored to be opened again keeps the name as it is. An address in
    it does not say with which name and password it is opened.
    """
    text = without_login(text)
    return "".join(map(_shown, text)) if not text.isprintable() else text


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":  # a space
        return character
    if "\udc80" <= character <= "\udcff":  # a byte, by os.fsdecode
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def clip_error(medium: Medium, reason: str) -> ClipError:
    """The error that says why ``medium`` cannot be read."""
    return ClipError(f"{medium.source}: {reason}")


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One example about the media of its record.

    Attributes:
        id: unique in the dataset.
        task: the task family: "caption", "vqa", "classification", "state", "triplet", "stream", ...
        query: X_Q; empty means the query-free form.
        texts: targets or references (paraphrases of one meaning); for task "triplet"
            (paraphrase 1, paraphrase 2, negative); for "stream" one text per entry of ``times``.
        inputs: indices into the record's media that form X_V, in order (empty for text-only tasks).
        candidates: candidate answers, or "@labels/NAME".
        candidate_media: indices into the record's media, for state-to-action matching.
        gold: index of the correct one of ``candidates`` or ``candidate_media``; ``None`` if absent.
        times: seconds, one per text of a stream (the middle of the event where its span is known).
        durations: seconds, one per entry of ``times``; empty if unknown.
        tags: strata for filters and metrics, e.g. {"kind": "motion", "object": "dog"}.
    """

    id: str
    task: str
    query: str = ""
    texts: tuple[str, ...] = ()
    inputs: tuple[int, ...] = (0,)
    candidates: tuple[str, ...] | str = ()
    candidate_media: tuple[int, ...] = ()
    gold: int | None = None
    times: tuple[float, ...] = ()
    durations: tuple[float, ...] = ()
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def trainable(self) -> bool:
        """Whether it is a training example: it has inputs, and a text Y that is true of them.

        Not so a stream, whose texts are true at their times only, nor a text triplet.
        """
        has_text = bool(self.texts) or (self.gold is not None and bool(self.candidates))
        return bool(self.inputs) and has_text and not self.times and self.task != "triplet"


@dataclasses.dataclass(frozen=True)
class MediaRecord:
    """The media of a record, without the annotations about them."""

    id: str
    media: tuple[Medium, ...]


@dataclasses.dataclass(frozen=True)
class Record:
    """Media and all annotations about them."""

    id: str
    media: tuple[Medium, ...]
    annotations: tuple[Annotation, ...]


@dataclasses.dataclass(frozen=True)
class Label:
    """One entry of a label set; several texts mean the mean of their embeddings."""

    id: str
    texts: tuple[str, ...]
