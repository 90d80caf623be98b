"""Figures of the report page: inline SVG, in colours that do on light and on dark."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Sequence

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

_NO_CURVE = ("step", "log_batch_size", "wall_seconds")
_COLOURS = ("#3b82f6", "#e0703a", "#3aa675", "#a26bd6", "#c9a227", "#d6558a", "#4bb8c4", "#8a6d4b")
_GREY = "#888888"
_LARGEST = 1.5  # times its size in inches that the page may show a figure
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 8,
    "font.family": "sans-serif",
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "text.parse_math": False,  # a $ in a name is a $
    **dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "axes.titlecolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        _GREY,
    ),
}


def training_curves(rows: Sequence[Mapping[str, float]]) -> tuple[list[Markup], str]:
    """A figure a metric; "accuracy/to_target" and "accuracy/to_prediction" share theirs.

    Args:
        rows: of ``metrics.jsonl``, one a logged training step.

    Returns:
        The figures, and a sentence of those that never changed, which have none; "" for no such.
    """
    panels: dict[str, list[str]] = {}
    constant: dict[str, float] = {}
    for name in dict.fromkeys(["loss", *(name for row in rows for name in row)]):
        values = {row[name] for row in rows if name in row}
        if not values or name in _NO_CURVE:
            continue
        if len(values) == 1 and len(rows) > 1:
            constant[name] = values.pop()
        else:
            panels.setdefault(name.partition("/")[0], []).append(name)
    told = ", ".join(f"{name} {value:g}" for name, value in constant.items())
    drawn = [_panel(title, names, rows) for title, names in panels.items()]
    return drawn, told and f"The same at all steps: {told}."


def _panel(title: str, names: Sequence[str], rows: Sequence[Mapping[str, float]]) -> Markup:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3, 2.1), layout="constrained")
        axes = figure.subplots()
        for name, colour in zip(names, itertools.cycle(_COLOURS), strict=False):
            points = [(row["step"], row[name]) for row in rows if name in row]
            label = name.partition("/")[2].replace("_", " ") or "all"
            axes.plot(*zip(*points, strict=True), color=colour, label=label)
        axes.set_title(title.replace("_", " "), loc="left")
        axes.grid(alpha=0.2)
        if len(names) > 1:
            axes.legend()
        return inline_svg(figure)


def inline_svg(figure: Figure) -> Markup:
    """A figure as part of the page: as wide as its column, but no wider than reads well."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Without a size of its own the figure scales with its column.
    svg = re.sub(r' (width|height)="[^"]*pt"', "", svg, count=2)
    widest = f"{_LARGEST * figure.get_figwidth():.1f}in"
    return Markup(svg.replace("<svg", f'<svg style="max-width: {widest}"', 1))
