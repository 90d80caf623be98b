"""A stream as one picture: frames, embedding change, segments, texts."""

from __future__ import annotations

import dataclasses
import itertools
import os
import textwrap
import threading
from collections.abc import Iterator, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from PIL import Image, ImageOps

from vljepa_jax.data.records import Medium, shown
from vljepa_jax.data.video import read_frames

FRAMES, PIXELS = 16, 96  # shown above the curve
_COLOURS = ("#3b82f6", "#e0703a", "#3aa675", "#a26bd6")
_STYLE = {
    "font.size": 7,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ is a $
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# The style is state of the whole process, and a page draws for each visitor in a thread.
_STYLED = threading.Lock()
_WIDTH = 12.0  # inches, as all that follow
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.5, 0.1, 0.08, 0.36, 0.1  # around and between the panels
_FRAME, _CURVE, _ROW = 0.7, 0.9, 0.17  # heights: of frames, of the curve, of a row of texts
_TEXT_SIZE, _LONGEST = 6.5, 44  # points; characters
_WIDER = 1.1  # than its outline is a text drawn, whose letters are placed on whole pixels
_MOST_ROWS = 12  # of texts; a segment that finds no room in them has a bar alone


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

    def parts(self, count: int) -> list[Timeline]:
        """Cuts it into parts of equal length, for pages too narrow for the whole."""
        if len(self.times) < 2:
            return [self]
        edges = np.linspace(self.times[0], self.times[-1], count + 1)
        return [self.between(first, last) for first, last in itertools.pairwise(edges)]

    def between(self, first: float, last: float) -> Timeline:
        """What lies between two moments of its ticks."""

        def cut(spans: Sequence[Spoken]) -> list[Spoken]:
            return [span for span in spans if span.start < last and span.end > first]

        # With the ticks at the edges, or else the curve would stop before them.
        inside = np.r_[first, self.times[(self.times > first) & (self.times < last)], last]
        change = np.interp(inside, self.times, self.change)
        return Timeline(self.frames, inside, change, cut(self.spoken), cut(self.events))

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


def draw_timeline(timeline: Timeline, width: float = _WIDTH) -> Figure:
    """The picture, in colours that do on light and on dark.

    Args:
        width: inches.
    """
    inner = width - _LEFT - _RIGHT
    first, last = _limits(timeline)
    named = [("said", timeline.spoken, _COLOURS[1])]
    if timeline.events:
        named.append(("happened", timeline.events, _COLOURS[2]))
    placed = [
        place_labels(parts, first, last, inner * 72 / (last - first)) for _, parts, _ in named
    ]
    rows = [1 + max((label.row for label in labels), default=0) for labels in placed]
    cells = max(1, round(inner / _FRAME))
    heights = [inner / cells, _CURVE, *(_ROW * (count + 0.4) for count in rows)]
    height = _TOP + sum(heights) + _GAP * (len(heights) - 1) + _BOTTOM
    with _STYLED, matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        panels = _panels(figure, heights)
        _draw_frames(next(panels), timeline.frames, first, last, cells)
        curve = next(panels)
        curve.plot(timeline.times, timeline.change, color=_COLOURS[0], linewidth=1)
        curve.set_ylabel("change")
        for part in timeline.spoken:
            curve.axvline(part.start, color="#888888", linewidth=0.5, alpha=0.6)
        texts = [*panels]
        for axes, (name, parts, colour), labels, count in zip(
            texts, named, placed, rows, strict=True
        ):
            _draw_texts(axes, parts, labels, count, colour)
            axes.set_ylabel(name)
        for axes in (curve, *texts):
            axes.set_xlim(first, last)
            axes.tick_params(labelbottom=axes is texts[-1])
        texts[-1].set_xlabel("seconds")
    return figure


@dataclasses.dataclass(frozen=True)
class Label:
    """Where the text of a segment stands.

    Attributes:
        row: counted from the top; that of its bar too.
        left: seconds at which the text begins.
        text: shortened; "" where there is no room for it.
    """

    row: int
    left: float
    text: str


def place_labels(
    parts: Sequence[Spoken], first: float, last: float, points_per_second: float
) -> list[Label]:
    """Puts each segment into the highest row where neither its bar nor its text meets another's.

    A text that would run out of the picture is moved to the left until it ends where that does.
    """
    font = FontProperties(size=_TEXT_SIZE)
    ends: list[float] = []  # seconds up to which each row is taken
    labels = []
    for part in parts:
        text = textwrap.shorten(shown(part.text), _LONGEST, placeholder="…") or "…"
        outline, *_ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
        wide = _WIDER * outline / points_per_second
        start, end = max(part.start, first), min(part.end, last)
        left = max(first, min(start, last - wide))
        row = next((r for r, taken in enumerate(ends) if taken <= min(left, start)), len(ends))
        if row == _MOST_ROWS:
            text, row = "", min(range(_MOST_ROWS), key=ends.__getitem__)
            wide = 0.0
        if row == len(ends):
            ends.append(first)
        ends[row] = max(ends[row], end, left + wide) + 6 / points_per_second
        labels.append(Label(row, left, text))
    return labels


def save_timeline(timeline: Timeline, path: str | os.PathLike) -> None:
    """Writes the picture; the form is the suffix's (.png, .svg, .pdf)."""
    draw_timeline(timeline).savefig(path, dpi=120)


def thumbnail(image: Image.Image) -> np.ndarray:
    """A frame as the timeline shows it."""
    return np.asarray(ImageOps.fit(image, (PIXELS, PIXELS), Image.Resampling.BILINEAR))


def _limits(timeline: Timeline) -> tuple[float, float]:
    if len(timeline.times):
        first, last = float(timeline.times[0]), float(timeline.times[-1])
    else:
        first, last = 0.0, max((part.end for part in timeline.spoken), default=1.0)
    return first, max(last, first + 1e-3)


def _panels(figure: Figure, heights: Sequence[float]) -> Iterator[Axes]:
    """Axes below each other, of these heights in inches."""
    width, height = figure.get_size_inches()
    top = height - _TOP
    for own in heights:
        below = (top - own) / height
        yield figure.add_axes(
            (_LEFT / width, below, (width - _LEFT - _RIGHT) / width, own / height)
        )
        top -= own + _GAP


def _draw_frames(
    axes: Axes,
    frames: Sequence[tuple[float, np.ndarray]],
    first: float,
    last: float,
    cells: int,
) -> None:
    """A strip of square cells, each with the frame nearest to its middle."""
    axes.set_axis_off()
    if not frames:
        return
    times = np.array([time for time, _ in frames])
    middles = first + (np.arange(cells) + 0.5) / cells * (last - first)
    nearest = [frames[int(np.abs(times - middle).argmin())][1] for middle in middles]
    axes.imshow(np.concatenate(nearest, axis=1), aspect="auto", interpolation="nearest")


def _draw_texts(
    axes: Axes, parts: Sequence[Spoken], labels: Sequence[Label], rows: int, colour: str
) -> None:
    axes.set_ylim(rows + 0.2, -0.2)
    axes.set_yticks([])
    for part, label in zip(parts, labels, strict=True):
        bar = label.row + 0.9
        axes.plot([part.start, part.end], [bar] * 2, color=colour, lw=2.5, solid_capstyle="butt")
        axes.text(
            label.left,
            bar - 0.3,
            label.text,
            color="#888888",
            clip_on=True,
            fontsize=_TEXT_SIZE,
            va="baseline",
        )
