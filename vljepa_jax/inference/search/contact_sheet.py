"""Hits of a search as one picture: a filmstrip and a caption for each clip."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from vljepa_jax.data.records import ClipError, shown
from vljepa_jax.data.video import thumbnails
from vljepa_jax.inference.search.hits import Hit

_FRAMES, _PIXELS = 6, 128  # of a filmstrip
_GAP = 2  # between frames
_OTHERS = 4  # windows of a clip whose times are told
_LINE, _MARGIN = 16, 8  # height of a line of text; around everything


def filmstrip(frames: UInt8[np.ndarray, "T H W 3"]) -> Image.Image:
    """Frames side by side."""
    _, height, width, _ = frames.shape
    step = width + _GAP
    strip = Image.new("RGB", (len(frames) * step - _GAP, height), "white")
    for index, frame in enumerate(frames):
        strip.paste(Image.fromarray(frame), (index * step, 0))
    return strip


def _font(size: int) -> ImageFont.FreeTypeFont:
    """One of most alphabets; Pillow's own has little beyond ASCII."""
    import matplotlib  # a search without a picture does not wait for it

    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size)


def contact_sheet(query: str, hits: Sequence[Hit]) -> Image.Image:
    """Draws the hits below the query, best first; one that cannot be read says why.

    A clip is shown by the best of its windows; of the others, the times are told.
    """
    clips: dict[str, list[Hit]] = {}
    for hit in hits:
        clips.setdefault(hit.name, []).append(hit)
    row = _PIXELS + _LINE + _MARGIN
    width = _FRAMES * (_PIXELS + _GAP) - _GAP + 2 * _MARGIN
    height = 2 * _MARGIN + _LINE + len(clips) * row
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = _font(_LINE - 4)

    def write(text: str, top: int, cut: Callable[[str], str] = lambda t: t[:-4] + "...") -> None:
        text = shown(text)
        while draw.textlength(text, font) > width - 2 * _MARGIN:
            text = cut(text)
        draw.text((_MARGIN, top), text, "black", font)

    write(query, _MARGIN)
    video = thumbnails(_FRAMES, _PIXELS)
    for rank, (hit, *others) in enumerate(clips.values()):
        top = _MARGIN + _LINE + _MARGIN + rank * row
        also = ", ".join(f"{when(other)} ({other.score:.2f})" for other in others[:_OTHERS])
        also = f"; also {also}{', ...' * (len(others) > _OTHERS)}" if others else ""
        name = os.path.basename(hit.name)
        write(f"{rank + 1}.  {name}  {when(hit)} ({hit.score:.2f}){also}", top)
        span = None if hit.start is None else (hit.start, hit.end)
        try:
            strip = filmstrip(hit.item.decode(video, span))
        except ClipError as error:
            # It begins with a path, whose end tells more.
            write(str(error), top + _LINE, lambda text: "..." + text[4:])
        else:
            sheet.paste(strip, (_MARGIN, top + _LINE))
    return sheet


def when(hit: Hit) -> str:
    """The window of a hit: "1:05-1:09.5", or "" for a whole clip."""
    if hit.start is None:
        return ""
    clock = (f"{int(s // 60)}:{s % 60:04.1f}" for s in (hit.start, hit.end))
    return "-".join(time.removesuffix(".0") for time in clock)
