"""``report.json``, the form of every report in the project, and ``report.html``, its page.

``report.json`` holds "metrics" (by name: value, chance, n, interval, and how it was measured),
"train" (what ``train.json`` says), "config" ("train" and "evaluation") and "environment"; later
parts of a report are further keys. The page is one file without references: a list of sections,
each drawn by the block of the template that its ``kind`` names.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import io
import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from vljepa_jax.checkpoint import write_text
from vljepa_jax.config import EvalConfig, TrainConfig, as_dict
from vljepa_jax.evals.benchmarks import benchmark_name, metric_name
from vljepa_jax.evals.evaluate import Result
from vljepa_jax.evals.gallery import HOW_CHOSEN, Gallery
from vljepa_jax.evals.protocols import PROTOCOLS
from vljepa_jax.host import available_cpus

# Settings of an evaluation that change no result of another benchmark.
_FREE_FIELDS = ("benchmarks", "batch_size", "num_workers", "stream")

_NO_CURVE = ("step", "log_batch_size")
_COLUMNS = 3
_COLOURS = ("#3b82f6", "#e0703a", "#3aa675", "#a26bd6", "#c9a227", "#d6558a", "#4bb8c4", "#8a6d4b")
_GREY = "#888888"
_STYLE = {
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
    **dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.titlecolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        _GREY,
    ),
}


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: heading.
        intro: a sentence or two below it; may be empty.
        kind: block of the template: "metrics", "figure", "galleries", "table", "list", "folded".
        content: what that block draws; see the template.
    """

    title: str
    intro: str
    kind: str
    content: Any


# ---------------------------------------------------------------------------------------------
# report.json
# ---------------------------------------------------------------------------------------------
def read_report(directory: Path) -> dict[str, Any]:
    """The report that is there, or an empty one."""
    path = directory / "report.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def make_report(
    previous: Mapping[str, Any],
    run_dir: Path,
    train: TrainConfig,
    evaluation: EvalConfig,
    results: Sequence[Result],
    skipped: Mapping[str, str],
) -> dict[str, Any]:
    """Puts results into the form of ``report.json``.

    Metrics of ``previous`` that were not measured again stay as long as they belong to the same
    training run (its config and what ``train.json`` says) and to the same evaluation settings, and
    of none that is now skipped; so does what was said of skipped ones that were not run since;
    parts that other commands wrote stay in any case; "streams" goes with the metrics.

    Args:
        run_dir: the training run, whose ``train.json`` is copied.
        train, evaluation: configs behind ``results``.
        skipped: why benchmarks were not run, by name.
    """
    report = {
        "metrics": {},
        "skipped": dict(skipped),
        "train": read_summary(run_dir),
        "config": {"train": as_dict(train), "evaluation": as_dict(evaluation)},
        "environment": environment(),
    }
    report = json.loads(json.dumps(report))  # tuples become lists, as in what was read back
    if _measured_alike(previous, report):
        # Those of older versions, which name no unit, are measured anew.
        kept = {name: m for name, m in previous["metrics"].items() if "unit" in m}
        for benchmark in evaluation.benchmarks:
            if benchmark_name(benchmark) in skipped:
                for ending in PROTOCOLS[benchmark.protocol].suffixes:
                    kept.pop(metric_name(benchmark, ending), None)
        report["metrics"].update(kept)
        run = {benchmark_name(result.benchmark) for result in results}
        before = previous.get("skipped", {}).items()
        report["skipped"] = {name: why for name, why in before if name not in run} | dict(skipped)
    else:
        previous = {key: value for key, value in previous.items() if key != "streams"}
    for result in results:
        report["metrics"].update(_metrics(result, evaluation.frames or train.data.video.frames))
    return {**{k: v for k, v in previous.items() if k not in report}, **report}


def read_summary(run_dir: Path) -> dict[str, Any]:
    """What a run's ``train.json`` says; empty before its end."""
    path = run_dir / "train.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def environment() -> dict[str, Any]:
    """Where and with what the figures were made."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "vljepa_jax": importlib.metadata.version("vljepa_jax"),
        "commit": _commit(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "devices": [device.device_kind for device in jax.devices()],
        "cpus": available_cpus(),
        "platform": platform.platform(),
    }


def _metrics(result: Result, frames: int) -> dict[str, Any]:
    benchmark = result.benchmark
    how = {
        "protocol": benchmark.protocol,
        "path": benchmark.path,
        "split": benchmark.split,
        "filter": dict(benchmark.filter),
        "query": benchmark.query,
        "frames": frames,
        "unreadable": len(result.unreadable),
    }
    return {
        name: {**dataclasses.asdict(metric), "interval": list(metric.interval), **how}
        for name, metric in result.metrics.items()
    }


def _measured_alike(previous: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
    if not {"metrics", "train", "config"} <= previous.keys():
        return False

    def settings(of: Mapping[str, Any]) -> Any:
        evaluation = of["config"].get("evaluation", {})
        kept = {k: v for k, v in evaluation.items() if k not in _FREE_FIELDS}
        return of["train"], of["config"].get("train"), kept

    return settings(previous) == settings(report)


def _commit() -> str | None:
    """The git commit of this source, "-dirty" if it was changed; ``None`` outside a repository."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    try:
        # A virtual environment may lie in somebody else's repository: there it is not tracked.
        tracked = git("ls-files", here.name)
        described = git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
        return described if tracked else None
    except FileNotFoundError:  # no git on this machine
        return None


# ---------------------------------------------------------------------------------------------
# report.html
# ---------------------------------------------------------------------------------------------
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
    if report["metrics"]:
        verdict = _verdict(report["metrics"])
        made.append(Section("Results", verdict, "metrics", _groups(report["metrics"])))
    if "sweep" in report:
        fields = ", ".join(report["sweep"]["fields"])
        made.append(
            Section(
                f"Sweep of {fields}",
                "Shares in percent, CIDEr x 100.",
                "table",
                sweep_table(report["sweep"]),
            )
        )
    made += extra
    if curves:
        made.append(Section("Training", _training(report["train"]), "figure", _curves(curves)))
    if report.get("skipped"):
        made.append(Section("Skipped benchmarks", "", "list", [*report["skipped"].values()]))
    if unreadable:
        text = "Counted as wrong wherever an example needs them."
        made.append(Section("Unreadable clips", text, "list", [*unreadable.values()]))
    if galleries:
        made.append(Section("Examples", HOW_CHOSEN, "galleries", list(galleries)))
    made.append(
        Section(
            "How it was made",
            "",
            "folded",
            {
                "Environment": json.dumps(report["environment"], indent=2),
                "Evaluation config": json.dumps(report["config"]["evaluation"], indent=2),
                "Training config": json.dumps(report["config"]["train"], indent=2),
            },
        )
    )
    return made


def write_report(
    directory: Path, report: Mapping[str, Any], title: str, page: Sequence[Section]
) -> None:
    """Writes ``report.json`` and ``report.html``, each in one stroke."""
    directory.mkdir(parents=True, exist_ok=True)
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("vljepa_jax.evals"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["percent"] = percent
    html = templates.get_template("report.html.j2").render(
        title=title, environment=report["environment"], sections=page
    )
    write_text(directory / "report.json", json.dumps(report, indent=2) + "\n")
    write_text(directory / "report.html", html)


def percent(share: float) -> str:
    """ "3.7", "42.1", "100": one digit after the point says all that a few hundred examples do."""
    return f"{100 * share:.1f}".removesuffix(".0") if share in (0, 1) else f"{100 * share:.1f}"


def shown(number: float, unit: str) -> str:
    """A metric's number: a share in percent, a ratio as "2.85×"."""
    if unit == "share":
        return percent(number)
    return f"{number:.2f}×" if unit == "ratio" else f"{number:.1f}"


def above_chance(metric: Mapping[str, Any]) -> bool:
    """Whether the whole interval lies above chance."""
    return metric["interval"][0] > metric["chance"]


def _verdict(metrics: Mapping[str, Any]) -> str:
    above = sum(above_chance(metric) for metric in metrics.values())
    return (
        f"{above} of {len(metrics)} metrics lie above chance with 95 % confidence. Chance is what "
        "guessing would score; for a choice it is the better of picking uniformly and of always "
        "giving the most frequent answer, for a caption a training caption drawn at random."
    )


def _groups(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the headline table by dataset and split."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, metric in metrics.items():
        numbers = {"value": metric["value"], "chance": metric["chance"]}
        numbers |= dict(zip(("low", "high"), metric["interval"], strict=True))
        texts = {key: shown(number, metric["unit"]) for key, number in numbers.items()}
        row = {**metric, "name": name, "above": above_chance(metric), "shown": texts}
        groups.setdefault(f"{metric['path']} · {metric['split']}", []).append(row)
    return [{"title": title, "rows": rows} for title, rows in groups.items()]


def sweep_table(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Header and rows of text: a metric a row, a setting a column, shares in percent."""
    fields = sweep["fields"]
    settings = [
        ", ".join(f"{f}={v}" for f, v in zip(fields, run["values"], strict=True))
        for run in sweep["runs"]
    ]
    names = list(dict.fromkeys(name for run in sweep["runs"] for name in run["metrics"]))
    return {
        "header": ["metric", *settings],
        "rows": [
            [name, *(_shown_value(run["metrics"].get(name)) for run in sweep["runs"])]
            for name in names
        ],
    }


def _shown_value(metric: Mapping[str, Any] | None) -> str:
    return "skipped" if metric is None else shown(metric["value"], metric["unit"])


def _training(train: Mapping[str, Any]) -> str:
    if not train:
        return ""
    minutes = train["wall_seconds"] / 60
    return (
        f"{train['steps']:,} steps in {minutes:.1f} minutes, "
        f"{train['examples_per_second']:,.0f} examples per second; final loss "
        f"{train['final_loss']:.3f}."
    )


def _curves(rows: Sequence[Mapping[str, float]]) -> Markup:
    """Training curves as inline SVG, in colours that do on light and on dark.

    One panel a metric; "accuracy/to_target" and "accuracy/to_prediction" share theirs.
    """
    panels: dict[str, list[str]] = {"loss": []}
    for name in dict.fromkeys(name for row in rows for name in row if name not in _NO_CURVE):
        panels.setdefault(name.partition("/")[0], []).append(name)
    lines = -(-len(panels) // _COLUMNS)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 2.1 * lines), layout="constrained")
        for index, (title, names) in enumerate(panels.items()):
            axes = figure.add_subplot(lines, _COLUMNS, index + 1)
            for name, colour in zip(names, _COLOURS, strict=False):
                points = [(row["step"], row[name]) for row in rows if name in row]
                label = name.partition("/")[2].replace("_", " ") or "all"
                axes.plot(*zip(*points, strict=True), color=colour, label=label)
            axes.set_title(title.replace("_", " "), loc="left")
            axes.grid(alpha=0.2)
            if len(names) > 1:
                axes.legend()
        return inline_svg(figure)


def inline_svg(figure: Figure) -> Markup:
    """A figure as part of the page, in colours that do on light and on dark."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # The size comes from the page: without one of its own the figure scales with the column.
    return Markup(re.sub(r' (width|height)="[^"]*pt"', "", svg, count=2))
