"""Several runs of one recipe: the mean and the spread of what their reports measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
import rich.table
from matplotlib.figure import Figure

from vljepa_jax.evals.examples import EvaluationError
from vljepa_jax.evals.page import shown
from vljepa_jax.evals.report import environment, read_measured
from vljepa_jax.places import write_text


def write_spread(runs: Sequence[Path], output: Path, console: rich.console.Console) -> None:
    """Writes ``report.json`` and ``spread.png`` into ``output``, and prints the table.

    Args:
        runs: directories with a report.json each, at least two.

    Raises:
        ConfigError: a report is missing or damaged.
        EvaluationError: one measures something that another does not, or is of a model whose
            training is not known.
    """
    reports = {run: read_measured(run) for run in runs}
    metrics = spread({str(run): report["metrics"] for run, report in reports.items()})
    trained = {run: (report.get("config") or {}).get("train") for run, report in reports.items()}
    for run, train in trained.items():
        if train is None:
            raise EvaluationError(f"'{run}' has the report of a model that no training run left")
    seeds = [train["seed"] for train in trained.values()]
    output.mkdir(parents=True, exist_ok=True)
    report = {
        "metrics": metrics,
        "runs": [str(run) for run in runs],
        "seeds": seeds,
        "environment": environment(),
    }
    write_text(output / "report.json", json.dumps(report, indent=2) + "\n")
    _draw(metrics, len(runs)).savefig(output / "spread.png", dpi=120)
    table = rich.table.Table(rich.table.Column("metric", overflow="fold"))
    for heading in ("mean", "deviation", "lowest", "highest", "chance"):
        table.add_column(heading, justify="right")
    for name, metric in metrics.items():
        numbers = ("mean", "standard_deviation", "lowest", "highest", "chance")
        table.add_row(name, *(shown(metric[number], metric["unit"]) for number in numbers))
    console.print(table)
    console.print(f"{len(runs)} runs, seeds {', '.join(map(str, seeds))}: {output / 'report.json'}")


def spread(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Metric -> mean, standard deviation (of a sample, n - 1), lowest, highest and all values.

    They are ``None`` where the metric of a run has no value, and "undefined" says why.

    Args:
        runs: name -> "metrics" of its report.

    Raises:
        EvaluationError: fewer than two runs, an empty one, or metrics that not all have.
    """
    if len(runs) < 2:
        raise EvaluationError("give at least two runs: one has no spread")
    for name, metrics in runs.items():
        if not metrics:
            raise EvaluationError(f"'{name}' has no report.json with metrics; evaluate it first")
    first, *others = runs
    for other in others:
        if differing := sorted(runs[first].keys() ^ runs[other].keys()):
            raise EvaluationError(
                f"'{first}' and '{other}' measure different things: {', '.join(differing)}"
            )
    found = {}
    for name, metric in runs[first].items():
        values = [metrics[name]["value"] for metrics in runs.values()]
        defined = None not in values
        found[name] = {
            "mean": float(np.mean(values)) if defined else None,
            "standard_deviation": float(np.std(values, ddof=1)) if defined else None,
            "lowest": min(values) if defined else None,
            "highest": max(values) if defined else None,
            "values": values,
        } | {key: metric.get(key) for key in ("chance", "n", "unit", "path", "split")}
        if not defined:
            reasons = (metrics[name].get("undefined") for metrics in runs.values())
            found[name]["undefined"] = next(filter(None, reasons), "a run has no value")
    return found


def _draw(metrics: Mapping[str, Any], runs: int) -> Figure:
    """Shares alone: each run a dot, the mean a line, chance a tick."""
    rows = {
        name: metric
        for name, metric in metrics.items()
        if metric["unit"] == "share" and metric["mean"] is not None
    }
    figure = Figure(figsize=(7, 0.8 + 0.25 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for row, metric in enumerate(rows.values()):
        axes.plot(100 * np.array(metric["values"]), [row] * runs, "o", color="#3b82f6", alpha=0.6)
        axes.plot([100 * metric["mean"]], [row], "|", color="black", markersize=12)
        axes.plot([100 * metric["chance"]], [row], "|", color="#999999", markersize=12)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"% (dots: {runs} runs; black: their mean; grey: chance)")
    axes.grid(axis="x", alpha=0.3)
    return figure
