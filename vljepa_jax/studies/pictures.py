"""The pictures of a study."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vljepa_jax.studies.results import units

_COLOURS = ("#3b82f6", "#e0703a", "#3aa675", "#a26bd6", "#c9a227", "#d6558a")
_NAMES = {"cider": "caption CIDEr", "top5": "top-5 accuracy, %", "vqa": "VQA accuracy, %"}
_GREY = "#888888"
_PANELS = 3  # in a row: more could not be read where a page shows the picture


def draw_comparison(summary: Mapping[str, Any], path: Path) -> None:
    """The paper's Figure 3: each column against the samples seen, on seen and compositional pairs;
    trained parameters; and the latency, where it was measured.

    Without a curve, where all was evaluated once alone, as ``draw_rows``.
    """
    columns, variants = summary["columns"], summary["variants"]
    if all(len(variant["samples"]) == 1 for variant in variants.values()):
        draw_rows([summary], path)
        return
    panels = len(columns) + ("parameters" in summary) + ("latency" in summary)
    rows = math.ceil(panels / _PANELS)
    across = min(panels, _PANELS)
    figure = Figure(figsize=(3.2 * across, 0.6 + 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, across, squeeze=False).ravel()
    for unused in grid[panels:]:
        unused.set_axis_off()
    axes = iter(grid)
    for column in columns:
        _draw_curves(next(axes), column, variants)
    # One for all, beside them: inside it would lie on curves.
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    if "parameters" in summary:
        _draw_parameters(next(axes), summary)
    if "latency" in summary:
        _draw_latency(next(axes), summary["latency"])
    figure.suptitle(f"{summary['title']} (dashed: seen pairs, dotted: compositional ones)")
    figure.savefig(path, dpi=120)


def _draw_curves(axes: Axes, column: str, variants: Mapping[str, Any]) -> None:
    scale = units([column])[column]
    for colour, variant in zip(itertools.cycle(_COLOURS), variants.values(), strict=False):
        own = variant["columns"][column]
        axes.plot(
            variant["samples"],
            scale * np.array(own["curve"], float),  # NaN, a gap, where it has no value
            "o-",
            color=colour,
            ms=3,
            label=variant["label"],
        )
        ends = [end for end in own["interval"] if end is not None]
        if len(ends) == 2:
            axes.plot(
                [variant["samples"][-1]] * 2, scale * np.array(ends), color=colour, lw=3, alpha=0.3
            )
        for style, compositional in ((":", True), ("--", False)):
            part = [n for n in own["metrics"] if n.endswith("_compositional") == compositional]
            if part:
                values = [
                    np.mean(np.array([at[name] for name in part], float))
                    for at in variant["metrics"]
                ]
                axes.plot(variant["samples"], scale * np.array(values), style, color=colour, lw=0.8)
    samples = sorted({count for variant in variants.values() for count in variant["samples"]})
    axes.set_xscale("log")
    axes.set_xticks(samples, [f"{count:,}" for count in samples], fontsize=8)
    axes.xaxis.minorticks_off()
    axes.set_xlabel("samples seen")
    axes.set_title(_NAMES.get(column, column))
    axes.grid(alpha=0.3)


def _draw_parameters(axes: Axes, summary: Mapping[str, Any]) -> None:
    names, left = [], {}
    for place, (name, parts) in enumerate(summary["parameters"].items()):
        names.append(summary["variants"][name]["label"])
        for part, count in parts.items():
            colour = _COLOURS[place] if part == "model" else _GREY
            axes.barh(place, count / 1e6, left=left.get(place, 0.0), color=colour)
            left[place] = left.get(place, 0.0) + count / 1e6
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_title("trained parameters, million")
    axes.set_xlabel("grey: the Y-Decoder")


def _draw_latency(axes: Axes, latency: Mapping[str, Any]) -> None:
    seconds = {name: 1000 * of["median"] for name, of in latency["seconds"].items()}
    query, without = seconds["query"], seconds["encoder_and_predictor"]
    bars = (
        (0, 0.0, query, _COLOURS[2], "query"),
        (0, query, max(without - query, 0.0), _COLOURS[0], "encoder and predictor"),
        (0, without, seconds["text"], _GREY, "text, when it is wanted"),
        (1, 0.0, seconds["encoder_and_llm"], _COLOURS[1], "encoder and LLM"),
    )
    for place, left, width, colour, label in bars:
        axes.barh(place, width, left=left, color=colour, label=label)
    axes.set_yticks((0, 1), ("VL-JEPA", "VLM"))
    axes.set_ylim(2.6, -0.6)  # room for the legend below
    axes.set_title("latency of a clip, ms")
    axes.set_xlabel(f"median of {latency['repeats']}")
    axes.legend(frameon=False, fontsize=7, loc="lower right")


def draw_rows(summaries: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Sections under each other, a variant a row with its 95 % interval, on scales that all share.

    The paper's figures are grey.
    """
    columns = list(dict.fromkeys(name for summary in summaries for name in summary["columns"]))
    heights = [0.8 + 0.32 * len(summary["variants"]) for summary in summaries]
    figure = Figure(figsize=(3.6 * len(columns), 0.6 + sum(heights)), layout="constrained")
    all_axes = figure.subplots(
        len(summaries), len(columns), squeeze=False, sharex="col", height_ratios=heights
    )
    cited = set()
    for row, summary in zip(all_axes, summaries, strict=True):
        variants = list(summary["variants"].values())
        for axes, column in zip(row, columns, strict=True):
            if column not in summary["columns"]:
                axes.set_visible(False)
                continue
            for place, variant in enumerate(variants):
                found = variant["columns"][column]
                _draw_row(axes, place, found, units([column])[column])
                cited |= {column} if found["paper"] is not None else set()
            axes.grid(alpha=0.3)
            axes.set_ylim(len(variants) - 0.5, -0.5)
            axes.set_yticks(range(len(variants)), [])
        first = next(axes for axes in row if axes.get_visible())
        first.set_yticks(range(len(variants)), [variant["label"] for variant in variants])
        first.set_title(summary["title"], fontsize=10, loc="left", pad=8)
    for axes, column in zip(all_axes[-1], columns, strict=True):
        beside = "\n(x: the paper, its own data)" * (column in cited)
        axes.set_xlabel(f"{_NAMES.get(column, column)}{beside}", fontsize=9)
        axes.margins(x=0.1)
    figure.savefig(path, dpi=120)


def _draw_row(axes: Axes, place: int, found: Mapping[str, Any], scale: float) -> None:
    if found["value"] is not None:
        axes.plot(scale * found["value"], place, "o", color=_COLOURS[0])
    ends = [end for end in found["interval"] if end is not None]
    if len(ends) == 2:
        axes.plot(scale * np.array(ends), [place] * 2, color=_COLOURS[0], alpha=0.5)
    if found["paper"] is not None:
        axes.plot(scale * found["paper"], place, "x", color=_GREY)
