"""Hits of a search as one picture: a filmstrip and a caption for each hit."""

from __future__ import annotations

import os
from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from vljepa_jax.data.records import ClipError, shown
from vljepa_jax.data.video import thumbnails
from vljepa_jax.inference.search.index import Hit

# Of most alphabets; Pillow's own has little beyond ASCII.
_FONT = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
_FRAMES, _PIXELS = 6, 128  # of a filmstrip
_GAP = 2  # between frames
_LINE, _MARGIN = 16, 8  # height of a line of text; around everything


def filmstrip(frames: UInt8[np.ndarray, "T H W 3"]) -> Image.Image:
    """Frames side by side."""
    _, height, width, _ = frames.shape
    step = width + _GAP
    strip = Image.new("RGB", (len(frames) * step - _GAP, height), "white")
    for index, frame in enumerate(frames):
        strip.paste(Image.fromarray(frame), (index * step, 0))
    return strip


def contact_sheet(query: str, hits: Sequence[Hit]) -> Image.Image:
    """Draws the hits below the query, best first; one that cannot be read says why."""
    row = _PIXELS + _LINE + _MARGIN
    width = _FRAMES * (_PIXELS + _GAP) - _GAP + 2 * _MARGIN
    height = 2 * _MARGIN + _LINE + len(hits) * row
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(_FONT, _LINE - 4)

    def write(text: str, top: int) -> None:
        text = shown(text)
        while draw.textlength(text, font) > width - 2 * _MARGIN:  # the end tells more of a path
            text = "..." + text[4:]
        draw.text((_MARGIN, top), text, "black", font)

    write(query, _MARGIN)
    video = thumbnails(_FRAMES, _PIXELS)
    for rank, hit in enumerate(hits):
        top = _MARGIN + _LINE + _MARGIN + rank * row
        write(f"{rank + 1}.  {hit.score:.3f}  {when(hit)}  {os.path.basename(hit.name)}", top)
        span = None if hit.start is None else (hit.start, hit.end)
        try:
            strip = filmstrip(hit.item.decode(video, span))
        except ClipError as error:
            write(str(error), top + _LINE)
        else:
            sheet.paste(strip, (_MARGIN, top + _LINE))
    return sheet


def when(hit: Hit) -> str:
    """The window of a hit: "1:05.0-1:09.0", or "" for a whole clip."""
    if hit.start is None:
        return ""
    return "-".join(f"{int(s // 60)}:{s % 60:04.1f}" for s in (hit.start, hit.end))
