"""The clip or picture of a search by example, as ``--like`` names it: CLIP[@start-end]."""

from __future__ import annotations

import os
import re

from vljepa_jax.data.records import Medium, clip_error, shown
from vljepa_jax.data.video import play_time

_CLOCK = r"(?:\d+:){0,2}\d+(?:\.\d+)?"
_SPAN = re.compile(rf"(?P<start>{_CLOCK})?-(?P<end>{_CLOCK})?")


class ExampleError(ValueError):
    """What is no example; the message says what one looks like."""


def read_example(text: str) -> Medium:
    """A file, or a part of it: ``clip.mp4@4-8``, ``clip.mp4@1:05-1:09.5``, ``clip.mp4@90-``.

    Args:
        text: as written. What is there under this name is taken whole, even if it holds @.

    Raises:
        ExampleError: what follows the @ is no span, or one that ends before it starts.
        ClipError: the span lies outside the video, or the file has no time or cannot be read.
    """
    path, at, span = text.rpartition("@")
    if os.path.exists(text) or not at:
        return Medium(path=os.path.abspath(text))
    times = _SPAN.fullmatch(span)
    if times is None or span == "-":
        raise ExampleError(
            f"'{shown(text)}': after @ comes a span, START-END, in seconds or m:ss: "
            f"{shown(path)}@4-8, {shown(path)}@1:05-1:09.5"
        )
    start, end = map(_seconds, times.groups())
    if start is not None and end is not None and end <= start:
        raise ExampleError(f"'{shown(text)}': ends at {end:g} s, but starts at {start:g} s")
    medium = Medium(path=os.path.abspath(path), start=start, end=end)
    if play_time(medium) is None:
        raise clip_error(medium, f"is a picture, which has no span: leave out @{span}")
    return medium


def _seconds(clock: str | None) -> float | None:
    """ "1:02:03.5" -> 3723.5"""
    if clock is None:
        return None
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
