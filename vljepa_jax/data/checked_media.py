"""Records whose media are looked at, or read, before they are written: what is sound of them.

Both ways of writing a dataset use it: from manifests (``prepare``) and by shares
(``share_writer``). Its functions are sent to other processes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vljepa_jax.data.cut import cut
from vljepa_jax.data.kinds import first_bytes, kind_of, recognise
from vljepa_jax.data.media_bytes import embedded
from vljepa_jax.data.records import Annotation, ClipError, Medium, Record, clip_error
from vljepa_jax.data.transcode import Encoding, transcode
from vljepa_jax.data.video import play_time, read_frames

# Why each medium of a record cannot be read; ``None`` where it can.
Reasons = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class MediaCheck:
    """How media are written and looked at; called, it gives a record and the reasons of its media.

    Attributes:
        embed: whether records hold the bytes of their media, or their paths.
        decode: whether a frame of each is decoded, or its first bytes alone are looked at, which
            is some hundred times faster. A span that is embedded is decoded in any case.
        encoding: how videos that are embedded are encoded anew; ``None`` copies them.
        margin: seconds of a video that are embedded before a span, and after it.
    """

    embed: bool
    decode: bool = True
    encoding: Encoding | None = None
    margin: float = 0.0

    def __call__(self, record: Record) -> tuple[Record, Reasons]:
        attempts = [_attempt(self._medium, medium) for medium in record.media]
        media = tuple(medium for medium, _ in attempts)
        earlier = [_start(a) - _start(b) for a, b in zip(record.media, media, strict=True)]
        annotations = tuple(_timed(annotation, earlier) for annotation in record.annotations)
        checked = dataclasses.replace(record, media=media, annotations=annotations)
        return checked, tuple(reason for _, reason in attempts)

    def _medium(self, medium: Medium) -> Medium:
        has_span = medium.start is not None or medium.end is not None
        changes = (medium.path and has_span) or self.encoding is not None
        if self.embed and changes and kind_of(medium) == "video":
            return self._cut_out(medium)
        if self.decode:
            read_frames(medium, [0.5], np.asarray)  # from the middle of the span
        elif recognise(first_bytes(medium)) is None:
            raise clip_error(medium, "is no known video or image")
        return embedded(medium) if self.embed and medium.path else medium

    def _cut_out(self, medium: Medium) -> Medium:
        if self.margin:
            play_time(medium)  # a span beyond the end is refused, which a wider one may hide
        # A span may begin before its video, whose first frame is then shown.
        start = medium.start
        wide = dataclasses.replace(
            medium,
            start=None if start is None else min(start, max(0.0, start - self.margin)),
            end=None if medium.end is None else medium.end + self.margin,
        )
        part = cut(wide) if self.encoding is None else transcode(wide, self.encoding)
        earlier = _start(wide) - _start(part)
        return dataclasses.replace(
            part,
            start=part.start if medium.start is None else medium.start - earlier,
            end=part.end if medium.end is None else medium.end - earlier,
        )


def sound_part(record: Record, reasons: Reasons) -> tuple[Record, dict[str, str]]:
    """The usable part of a record, and why its other annotations are not, by their ids."""
    refused = {}
    for annotation in record.annotations:
        used = [reasons[index] for index in annotation.inputs + annotation.candidate_media]
        if reason := next(filter(None, used), None):
            refused[annotation.id] = reason
    if not refused:
        return record, refused
    kept = [index for index, reason in enumerate(reasons) if reason is None]
    place = {index: position for position, index in enumerate(kept)}
    annotations = tuple(
        moved(annotation, place)
        for annotation in record.annotations
        if annotation.id not in refused
    )
    media = tuple(record.media[index] for index in kept)
    return dataclasses.replace(record, media=media, annotations=annotations), refused


def moved(annotation: Annotation, place: Mapping[int, int]) -> Annotation:
    """The annotation with its media at other indices."""
    return dataclasses.replace(
        annotation,
        inputs=tuple(place[index] for index in annotation.inputs),
        candidate_media=tuple(place[index] for index in annotation.candidate_media),
    )


def _start(medium: Medium) -> float:
    return medium.start or 0.0


def _timed(annotation: Annotation, earlier: Sequence[float]) -> Annotation:
    """The annotation with its times as much earlier as the medium that they are seconds of."""
    if not annotation.times or not annotation.inputs or not earlier[annotation.inputs[0]]:
        return annotation
    times = tuple(time - earlier[annotation.inputs[0]] for time in annotation.times)
    return dataclasses.replace(annotation, times=times)


def _attempt(read: Callable[[Medium], Medium], medium: Medium) -> tuple[Medium, str | None]:
    try:
        return read(medium), None
    except ClipError as error:
        return medium, str(error)
