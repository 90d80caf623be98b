"""The study of selective decoding in the report: curves, timeline, entries of report.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from vljepa_jax.config import STREAM_REFERENCE_RATE, WORLD, StreamSet, StreamStudyConfig
from vljepa_jax.evals.benchmarks import STREAM
from vljepa_jax.evals.figures import STYLE, inline_svg
from vljepa_jax.evals.page import (
    MetricRow,
    Section,
    metrics_table,
    shown,
    shown_interval,
    what_is_missing,
)
from vljepa_jax.evals.streams.curves import GAIN_RATE, Gain, Reduction
from vljepa_jax.evals.streams.run import StreamResult, StudiedSet
from vljepa_jax.inference.streams.timeline import draw_timeline

# Of each strategy: what its decoding reduction and its gain are called.
_METRICS = {
    "offline": ("stream/decoding_reduction", "stream/gain_at_half_rate"),
    "online": ("stream/online_decoding_reduction", "stream/online_gain_at_half_rate"),
}
_COLOURS = {"uniform": "#888888", "offline": "#3b82f6", "online": "#e0703a"}
_TIMELINE_PARTS, _PART_WIDTH = 4, 4.2  # inches: what a phone shows of it can be read
_LINES = {"clip": "-", "averaged": "--", "exact": ":"}


def metrics(result: StreamResult, config: StreamStudyConfig) -> dict[str, dict[str, Any]]:
    """The entries of ``report.json``: the headlines, and those of the other sets."""
    made = {}
    for index, own in enumerate(result.sets):
        study = own.study
        suffix = f"_{own.part.name}" if index else ""
        for strategy, (reduced, gained) in _METRICS.items():
            choice = strategy, config.forms[0]
            reduction, gain = study.reductions[choice], study.gains[choice]
            same = {
                "n": int(study.annotations.sum()),
                "protocol": STREAM,
                **_what(own),
                "decoder": own.decoder,
                "form": config.forms[0],
                "query": config.query,
                "cider": reduction.quality,
                "cider_blind": study.blind,
                "unreadable": len(own.unreadable),
            }
            # What the uniform strategy itself reaches: 1 unless its curve is flat.
            chance = STREAM_REFERENCE_RATE / reduction.uniform_rate
            over, within = reduction.over_uniform, reduction.over_uniform_interval
            made[reduced + suffix] = _entry(reduction, "ratio", chance) | same
            made[reduced + suffix] |= {
                "over_uniform": over,
                "over_uniform_interval": within and list(within),
            }
            made[gained + suffix] = _entry(gain, "cider", 0.0) | same | {"rate": GAIN_RATE}
    return made


def _entry(found: Reduction | Gain, unit: str, chance: float) -> dict[str, Any]:
    return {
        "value": found.value,
        "chance": chance,
        "interval": found.interval and list(found.interval),
        "unit": unit,
        "better": "higher",
    } | {key: why for key in ("undefined", "caveat") if (why := getattr(found, key))}


def as_json(result: StreamResult) -> dict[str, Any]:
    """Curves and reductions, the key "streams" of ``report.json``."""
    return {
        "decoder": "; ".join(dict.fromkeys(own.decoder for own in result.sets)),
        "reference_rate": STREAM_REFERENCE_RATE,
        "sets": [_set_as_json(own) for own in result.sets],
    }


def _what(own: StudiedSet) -> dict[str, Any]:
    """Which streams a figure is of."""
    part = own.part
    if isinstance(part, StreamSet):
        where = {"path": WORLD, "split": "streams", "kind": part.kind, "density": part.density}
    else:
        where = {"path": part.path, "split": part.split, "name": part.name}
        if part.expected:
            where |= {"expected": part.expected, "missing": part.expected - own.videos}
    return where | {"streams": len(own.study.seconds)}


def _title(what: Mapping[str, Any]) -> str:
    if "kind" in what:
        return f"{what['kind'].capitalize()}, {what['density']:g} events per second"
    return f"{what['name']}: {what['path']}, {what['split']}"


def _set_as_json(own: StudiedSet) -> dict[str, Any]:
    study = own.study
    return {
        **_what(own),
        "unreadable": dict(own.unreadable),
        "seconds": float(study.seconds.sum()),
        "annotations": int(study.annotations.sum()),
        "cider_blind": study.blind,
        "curves": {
            f"{strategy}/{form}": [
                {"rate": rate, "cider": cider} for rate, cider in study.points(strategy, form)
            ]
            for strategy, form in study.curves
        },
        "reductions": {
            f"{strategy}/{form}": _as_json(found)
            for (strategy, form), found in study.reductions.items()
        },
        "gains": {
            f"{strategy}/{form}": _as_json(found) for (strategy, form), found in study.gains.items()
        },
    }


def _as_json(found: Reduction | Gain) -> dict[str, Any]:
    """What a figure has: what it lacks is left out, and "undefined" or "caveat" says why."""
    return {
        key: value for key, value in dataclasses.asdict(found).items() if value not in (None, "")
    }


def stream_sections(report: Mapping[str, Any], result: StreamResult | None) -> list[Section]:
    """Table and curves of the study, and its timeline where it was measured just now.

    Args:
        report: with the key "streams".
    """
    streams = report["streams"]
    intro = (
        f"How many times fewer decodings than {STREAM_REFERENCE_RATE:g} per second, evenly spaced, "
        "reach the same CIDEr; bold: above chance with 95 % confidence. Chance is what evenly "
        "spaced decodings reach by the same rule; over uniform is their lowest rate over the "
        "lowest rate chosen by the embeddings. A gain is the CIDEr of moments chosen by the "
        f"embeddings less that of as many evenly spaced, {GAIN_RATE:g} per second. Intervals are a "
        "bootstrap over the streams; n counts annotations."
    )
    table = metrics_table(_by_set(report["metrics"]), more=["over uniform"])
    made = [Section("Streams", intro, "metrics", table)]
    intro = (
        "CIDEr of the text nearest in time to each annotation, against decodings per second. "
        f"Decoder: {streams['decoder']}. Dotted across: every annotation with another's text."
    )
    curves = [inline_svg(draw_curves({**streams, "sets": [part]})) for part in streams["sets"]]
    made.append(Section("Selective decoding", intro, "figures", curves))
    if result is not None:
        intro = "The beginning of a stream, cut offline: how the embedding moves, what is said."
        parts = result.timeline.parts(_TIMELINE_PARTS)
        pictures = [inline_svg(draw_timeline(part, _PART_WIDTH)) for part in parts]
        made.append(Section("Timeline", intro, "figures", pictures))
    return made


def _by_set(metrics: Mapping[str, Any]) -> dict[str, list[MetricRow]]:
    groups: dict[str, list[MetricRow]] = {}
    for name, metric in metrics.items():
        if metric["protocol"] != STREAM:
            continue
        streams = f"{metric['streams']} stream{'s' if metric['streams'] > 1 else ''}"
        title = (
            f"{_title(metric)} · {streams} · "
            f"CIDEr to reach {metric['cider']:.1f}; with another annotation's text "
            f"{metric['cider_blind']:.1f}"
        )
        over = shown(metric.get("over_uniform"), "ratio")
        within = shown_interval(metric.get("over_uniform_interval"), "ratio")
        caveat = f"Says little: {metric['caveat']}." if metric.get("caveat") else ""
        note = " ".join(filter(None, (what_is_missing(metric), caveat)))
        row = MetricRow(name, metric, (f"{over} ({within})",), note)
        groups.setdefault(title, []).append(row)
    return groups


def save_pictures(directory: Path, streams: Mapping[str, Any], result: StreamResult) -> None:
    """Writes ``stream_curves.png`` and ``stream_timeline.png``."""
    draw_curves(streams).savefig(directory / "stream_curves.png", dpi=120)
    draw_timeline(result.timeline).savefig(directory / "stream_timeline.png", dpi=120)


def draw_curves(streams: Mapping[str, Any]) -> Figure:
    """A panel a set: CIDEr against decodings per second."""
    sets = streams["sets"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(sets), 3.1), layout="constrained")
        panels = figure.subplots(1, len(sets), squeeze=False)[0]
        for axes, part in zip(panels, sets, strict=True):
            _draw_curves(axes, part, streams["reference_rate"])
        panels[0].set_ylabel("CIDEr × 100")
        columns = 2 if len(sets) == 1 else 3
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=columns)
    return figure


def _draw_curves(axes: Axes, part: Mapping[str, Any], reference_rate: float) -> None:
    for name, points in part["curves"].items():
        strategy, form = name.split("/")
        axes.plot(
            [point["rate"] for point in points],
            [point["cider"] for point in points],
            _LINES[form],
            color=_COLOURS[strategy],
            label=f"{strategy}, {form}",
        )
    axes.axhline(part["cider_blind"], color="#888888", linewidth=0.8, linestyle=(0, (1, 4)))
    axes.axvline(reference_rate, color="#888888", linewidth=0.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("decodings per second")
    axes.set_title(_title(part), loc="left")
    axes.grid(alpha=0.2)
    axes.set_ylim(bottom=0)
