"""``report.html``, the page of a report: one file without references.

It is a list of sections, each drawn by the block of the template that its ``kind`` names.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from vljepa_jax.evals.benchmarks import (
    STREAM,
)
from vljepa_jax.evals.figures import training_curves
from vljepa_jax.evals.gallery import HOW_CHOSEN, Gallery

_BOLD = "Bold: above chance with 95 % confidence."
_UNITS = (
    "Shares in percent, CIDEr × 100; intervals are Wilson's, for CIDEr a bootstrap over the clips."
)


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: heading.
        intro: a sentence or two below it; may be empty.
        kind: block of the template: "splits", "metrics", "figures", "galleries", "list",
            "folded", "grid".
        content: what that block draws; see the template.
    """

    title: str
    intro: str
    kind: str
    content: Any


@dataclasses.dataclass(frozen=True)
class MetricRow:
    """A row of a table of metrics.

    Attributes:
        name: what stands before the numbers.
        metric: as in ``report.json``.
        more: text of the table's further columns.
        note: what limits the numbers, for a note below the table; may be empty.
    """

    name: str
    metric: Mapping[str, Any]
    more: tuple[str, ...] = ()
    note: str = ""


def sections(
    report: Mapping[str, Any],
    curves: Sequence[Mapping[str, float]],
    galleries: Sequence[Gallery],
    unreadable: Mapping[str, str],
    extra: Sequence[Section] = (),
) -> list[Section]:
    """The sections of the page, in order; those with nothing to show are left out.

    Args:
        report: see ``make_report``; "sweep" is shown where there is one.
        curves: the rows of ``metrics.jsonl``, one a logged training step.
        galleries: examples with pictures.
        unreadable: reason by clip.
        extra: sections of other studies, shown after the results.
    """
    made = []
    of_clips = {name: m for name, m in report["metrics"].items() if m["protocol"] != STREAM}
    if of_clips:
        verdict = " ".join([_verdict(of_clips), _UNITS, *unlike_training(report)])
        made.append(Section("Results", verdict, "splits", splits_table(of_clips)))
    if "sweep" in report:
        title = f"Sweep of {', '.join(report['sweep']['fields'])}"
        table = metrics_table(_by_metric(report["sweep"]), first="setting")
        made.append(Section(title, f"{_BOLD} {_UNITS}", "metrics", table))
    made += extra
    if curves:
        drawn, constant = training_curves(curves)
        intro = " ".join(filter(None, (_training(report["train"]), constant)))
        made.append(Section("Training", intro, "figures", drawn))
    if report.get("skipped"):
        made.append(Section("Skipped benchmarks", "", "list", [*report["skipped"].values()]))
    if unreadable:
        text = "Counted as wrong wherever an example needs them."
        made.append(Section("Unreadable clips", text, "list", [*unreadable.values()]))
    if galleries:
        made.append(Section("Examples", HOW_CHOSEN, "galleries", list(galleries)))
    how = {
        "Environment": report["environment"],
        "Model": report.get("model"),
        "Evaluation config": report["config"]["evaluation"],
        "Training config": report["config"]["train"],
    }
    shown = {name: json.dumps(part, indent=2) for name, part in how.items() if part}
    made.append(Section("How it was made", "", "folded", shown))
    return made


def what_was_evaluated(report: Mapping[str, Any]) -> str:
    """Checkpoint, benchmarks and splits, in a sentence or two; "" where a report names none."""
    card, metrics = report.get("model") or {}, report["metrics"]
    parts = []
    if card.get("source"):
        step = "" if card.get("step") is None else f", step {card['step']:,}"
        size = f", {card['parameters'] / 1e6:,.1f} million parameters" * ("parameters" in card)
        view = f", {card['frames']} frames of {card['image_size']} px" * ("image_size" in card)
        parts.append(f"Checkpoint {card['source']}{step}{size}{view}.")
    splits: dict[str, dict[str, None]] = {}
    for metric in metrics.values():
        splits.setdefault(metric["path"], {})[metric["split"]] = None
    for path, own in splits.items():
        parts.append(f"Evaluated on {path}: {', '.join(own)}.")
    return " ".join(parts)


def render(
    title: str, environment: Mapping[str, Any], page: Sequence[Section], subtitle: str = ""
) -> str:
    """The page: one file without references."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("vljepa_jax.evals"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["percent"] = percent
    template = templates.get_template("report.html.j2")
    return template.render(title=title, subtitle=subtitle, environment=environment, sections=page)


def percent(share: float) -> str:
    """ "3.7", "42.1", "100": one digit after the point says all that a few hundred examples do."""
    return f"{100 * share:.1f}".removesuffix(".0") if share in (0, 1) else f"{100 * share:.1f}"


def shown(number: float | None, unit: str) -> str:
    """A metric's number: a share in percent, a ratio as "2.85×", a rank as it is; "–" for none."""
    if number is None:
        return "–"
    if unit == "share":
        return percent(number)
    return f"{number:.2f}×" if unit == "ratio" else f"{number:.1f}"


def shown_interval(interval: Sequence[float] | None, unit: str) -> str:
    """ "12.9 – 14.1", "0.51 – 2.85×", "–"."""
    if interval is None:
        return "–"
    low, high = (shown(number, unit) for number in interval)
    return f"{low.removesuffix('×')} – {high}"


def above_chance(metric: Mapping[str, Any]) -> bool:
    """Whether the whole interval lies on the better side of chance."""
    if metric["value"] is None or metric["interval"] is None:
        return False
    low, high = metric["interval"]
    # Those of older reports do not say which side that is: it was always above.
    better = metric.get("better", "higher")
    return {"higher": low > metric["chance"], "lower": high < metric["chance"]}.get(better, False)


def metrics_table(
    groups: Mapping[str, Sequence[MetricRow]], *, first: str = "metric", more: Sequence[str] = ()
) -> dict[str, Any]:
    """Content of a block "metrics": the numbers of each row, then a bar of those that are shares.

    Args:
        groups: rows by heading.
        first: heading of the rows' names.
        more: headings of their further columns.
    """
    groups = {name: [*map(_with_reason, rows)] for name, rows in groups.items()}
    notes = list(dict.fromkeys(row.note for rows in groups.values() for row in rows if row.note))
    return {
        "first": first,
        "more": more,
        "groups": [
            {"title": name, "rows": [_drawn(row, notes) for row in rows]}
            for name, rows in groups.items()
        ],
        "bars": any(row.metric["unit"] == "share" for rows in groups.values() for row in rows),
        "notes": notes,
    }


def splits_table(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Content of a block "splits": for each dataset a metric a row, a split a column."""
    rows = {
        name: _with_reason(MetricRow(name, metric, note=what_is_missing(metric)))
        for name, metric in metrics.items()
    }
    notes = list(dict.fromkeys(row.note for row in rows.values() if row.note))
    tables: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        table = tables.setdefault(row.metric["path"], {"splits": [], "rows": {}})
        if row.metric["split"] not in table["splits"]:
            table["splits"].append(row.metric["split"])
        # The same benchmark on another split has a suffix; what older reports have, no partner.
        alike = table["rows"].setdefault(name.removesuffix(row.metric.get("suffix", "")), {})
        alike[row.metric["split"]] = _drawn(row, notes)
    return {"tables": tables, "notes": notes}


def unlike_training(report: Mapping[str, Any]) -> list[str]:
    """Says of each split where it is so that most clips are unlike those of training."""
    return [
        f"{name}: {found['unlike']} of {found['clips']} clips looked at are unlike those that the "
        "model was trained on; what it tells of them means little."
        for name, found in report.get("unlike", {}).items()
        if 2 * found["unlike"] > found["clips"]
    ]


def _drawn(row: MetricRow, notes: Sequence[str]) -> dict[str, Any]:
    """What the template shows of a row."""
    metric = row.metric
    return {
        "name": row.name,
        "note": notes.index(row.note) + 1 if row.note else None,
        "above": above_chance(metric),
        "value": shown(metric["value"], metric["unit"]),
        "chance": shown(metric["chance"], metric["unit"]),
        "interval": shown_interval(metric["interval"], metric["unit"]),
        "more": row.more,
        "metric": metric,
    }


def _with_reason(row: MetricRow) -> MetricRow:
    """The row, noted why its metric has no value."""
    reason = row.metric.get("undefined", "")
    parts = filter(None, (reason and f"{reason}.", row.note))
    return dataclasses.replace(row, note=" ".join(parts))


def _verdict(metrics: Mapping[str, Any]) -> str:
    above = sum(above_chance(metric) for metric in metrics.values())
    return (
        f"{above} of {len(metrics)} metrics lie above chance with 95 % confidence: their values "
        "are bold. Chance is what guessing would score; for a choice it is the better of picking "
        "uniformly and of always giving the most frequent answer, for a caption a training "
        "caption drawn at random."
    )


def _by_metric(sweep: Mapping[str, Any]) -> dict[str, list[MetricRow]]:
    """Rows of a sweep by metric: what the settings make of each stands together."""
    groups: dict[str, list[MetricRow]] = {}
    for run in sweep["runs"]:
        setting = setting_name(sweep["fields"], run["values"])
        for name, metric in run["metrics"].items():
            row = MetricRow(setting, metric, note=what_is_missing(metric))
            groups.setdefault(name, []).append(row)
    return groups


def setting_name(fields: Sequence[str], values: Sequence[str]) -> str:
    """E.g. "frames=4, batch_size=8"."""
    return ", ".join(f"{field}={value}" for field, value in zip(fields, values, strict=True))


def partial(metric: Mapping[str, Any]) -> str:
    """Says how much of its benchmark a metric is of: "partial: 900 of 1,000 examples".

    "" where it is of the whole, or where nobody knows how much that is.
    """
    missing, expected = metric.get("missing", 0), metric.get("expected", 0)
    if missing > 0:
        return f"partial: {expected - missing:,} of {expected:,} examples"
    return f"other than published: {expected - missing:,} examples, not {expected:,}" * bool(
        missing
    )


def what_is_missing(metric: Mapping[str, Any]) -> str:
    """What of its benchmark a metric does not cover, in sentences; "" if it is whole."""
    clips, part = metric.get("unreadable", 0), partial(metric)
    counted = "left out" if metric.get("protocol") == STREAM else "counted as wrong"
    unreadable = f"Unreadable clips, {counted}: {clips}." if clips else ""
    return " ".join(filter(None, (part and f"{part.capitalize()}.", unreadable)))


def _training(train: Mapping[str, Any]) -> str:
    if not train:
        return ""
    minutes = train["wall_seconds"] / 60
    return (
        f"{train['steps']:,} steps in {minutes:.1f} minutes, "
        f"{train['examples_per_second']:,.0f} examples per second; final loss "
        f"{train['final_loss']:.3f}."
    )
