"""A stream as one picture: frames, embedding change, segments, texts."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from vljepa_jax.data.records import Medium, shown
from vljepa_jax.data.video import read_frames

FRAMES, PIXELS = 16, 96  # shown above the curve
_COLOURS = ("#3b82f6", "#e0703a", "#3aa675", "#a26bd6")
_STYLE = {"font.size": 7, "svg.fonttype": "none", "text.parse_math": False}  # a $ is a $
_WIDTH = 12.0  # inches
_ROWS = 4  # texts of neighbouring segments stand in so many rows, so that they do not overlap


@dataclasses.dataclass(frozen=True)
class Spoken:
    """A text and the span of the stream that it is said of, in seconds."""

    start: float
    end: float
    at: float
    text: str


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Content of the picture.

    Attributes:
        frames: (seconds, uint8 [H, W, 3]), in order.
        times: [n] seconds of the ticks.
        change: [n] how far the embedding moved since the tick before.
        spoken: decoded segments.
        events: what truly happened, where it is known.
    """

    frames: Sequence[tuple[float, np.ndarray]]
    times: np.ndarray
    change: np.ndarray
    spoken: Sequence[Spoken]
    events: Sequence[Spoken] = ()

    @classmethod
    def of_medium(
        cls,
        medium: Medium,
        times: np.ndarray,
        change: np.ndarray,
        spoken: Sequence[Spoken],
        events: Sequence[Spoken],
    ) -> Timeline:
        """A timeline whose frames come from the file, evenly spaced over the ticks."""
        span = dataclasses.replace(medium, start=float(times[0]), end=float(times[-1]) + 1e-3)
        moments = (np.arange(FRAMES) + 0.5) / FRAMES
        frames = read_frames(span, moments, thumbnail)
        seconds = times[0] + moments * (times[-1] - times[0])
        return cls(list(zip(seconds, frames, strict=True)), times, change, spoken, events)


def draw_timeline(timeline: Timeline) -> Figure:
    """The picture, in colours that do on light and on dark."""
    rows = 3 if timeline.events else 2
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 1.2 + 1.3 + 1.5 * (rows - 1)), layout="constrained")
        top, curve, *texts = figure.subplots(
            rows + 1, 1, height_ratios=[0.9, 1.2, *([1.4] * (rows - 1))]
        )
        top.set_axis_off()
        if timeline.frames:
            strip = np.concatenate([frame for _, frame in timeline.frames], axis=1)
            top.imshow(strip, aspect="auto", interpolation="nearest")
        last = max([*timeline.times, *(s.end for s in timeline.spoken)], default=1.0)
        first = float(timeline.times[0]) if len(timeline.times) else 0.0
        curve.plot(timeline.times, timeline.change, color=_COLOURS[0], linewidth=1)
        curve.set_ylabel("embedding\nchange")
        for part in timeline.spoken:
            curve.axvline(part.start, color="#888888", linewidth=0.5, alpha=0.6)
        named = [("said", timeline.spoken, _COLOURS[1]), ("happened", timeline.events, _COLOURS[2])]
        for axes, (name, parts, colour) in zip(texts, named, strict=False):
            _draw_texts(axes, parts, colour)
            axes.set_ylabel(name)
        for axes in (curve, *texts):
            axes.set_xlim(first, last)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        (texts[-1] if texts else curve).set_xlabel("seconds")
    return figure


def save_timeline(timeline: Timeline, path: str | os.PathLike) -> None:
    """Writes the picture; the form is the suffix's (.png, .svg, .pdf)."""
    draw_timeline(timeline).savefig(path, dpi=120)


def thumbnail(image: Image.Image) -> np.ndarray:
    """A frame as the timeline shows it."""
    return np.asarray(ImageOps.fit(image, (PIXELS, PIXELS), Image.Resampling.BILINEAR))


def _draw_texts(axes: matplotlib.axes.Axes, parts: Sequence[Spoken], colour: str) -> None:
    axes.set_ylim(0, _ROWS)
    axes.set_yticks([])
    for index, part in enumerate(parts):
        row = _ROWS - 1 - index % _ROWS
        axes.plot(
            [part.start, max(part.end, part.start + 0.05)], [row + 0.12] * 2, color=colour, lw=2.5
        )
        text = textwrap.shorten(shown(part.text), 44, placeholder="…")
        axes.text(part.start, row + 0.25, text, color="#888888", clip_on=True, fontsize=6)
