"""What ``launch/eval.py`` does: evaluates a training run, prints the table, writes the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import rich.console
import rich.table

from vljepa_jax.checkpoint import load_params
from vljepa_jax.config import BenchmarkConfig, EvalConfig
from vljepa_jax.evals import report
from vljepa_jax.evals.evaluate import Datasets, Result, evaluate
from vljepa_jax.evals.gallery import make_galleries
from vljepa_jax.inference.model import Model
from vljepa_jax.processes import first_process
from vljepa_jax.run_log import read_metrics


def evaluate_run(
    run_dir: Path, config: EvalConfig, benchmarks: Sequence[BenchmarkConfig], output: Path
) -> None:
    """Evaluates the newest parameters of a run and writes report.json and report.html.

    Args:
        config: settings of the evaluation.
        benchmarks: those of ``config`` that are run now.
        output: directory of the report. Metrics there that are not measured again are kept, if
            they are of the same run and settings.

    Raises:
        CheckpointError, ConfigError, EvaluationError: see what is called.
    """
    train, params = load_params(run_dir)
    model = Model(train, params, frames=config.frames, batch_size=config.batch_size)
    datasets = Datasets(config.world, config.num_workers)
    results = evaluate(model, benchmarks, datasets)
    if not first_process():
        return
    made = report.make_report(report.read_report(output), run_dir, train, config, results)
    unreadable = {str(clip): why for result in results for clip, why in result.unreadable.items()}
    galleries = make_galleries(results, datasets)
    page = report.sections(made, read_metrics(run_dir), galleries, unreadable)
    report.write_report(output, made, _title(run_dir), page)
    console = rich.console.Console()
    console.print(_results_table(results))
    for why in unreadable.values():
        console.print(f"unreadable, counted as wrong: {why}", style="yellow", highlight=False)
    console.print(f"report: {output / 'report.html'}", highlight=False)


def sweep_run(
    run_dir: Path,
    fields: Sequence[str],
    settings: Sequence[tuple[tuple[str, ...], EvalConfig]],
    output: Path,
) -> None:
    """Evaluates a run once for each setting and writes one report that tabulates them.

    Args:
        fields: swept fields.
        settings: their values, and the config that has them.
        output: the report goes into a folder of its own there.
    """
    train, params = load_params(run_dir)
    runs = []
    for values, config in settings:
        model = Model(train, params, frames=config.frames, batch_size=config.batch_size)
        results = evaluate(model, config.benchmarks, Datasets(config.world, config.num_workers))
        measured = report.make_report({}, run_dir, train, config, results)
        runs.append({"values": list(values), "metrics": measured["metrics"]})
    if not first_process():
        return
    made = measured | {"metrics": {}, "sweep": {"fields": list(fields), "runs": runs}}
    page = report.sections(made, read_metrics(run_dir), [], {})
    directory = output / ("sweep_" + "_".join(fields))
    report.write_report(directory, made, f"{_title(run_dir)}, sweep", page)
    console = rich.console.Console()
    console.print(_sweep_table(report.sweep_table(made["sweep"])))
    console.print(f"report: {directory / 'report.html'}", highlight=False)


def _title(run_dir: Path) -> str:
    return f"VL-JEPA: {run_dir.resolve().name}"


def _results_table(results: Sequence[Result]) -> rich.table.Table:
    table = rich.table.Table(rich.table.Column("metric", overflow="fold"))
    for column in ("value %", "chance %", "95 % interval", "n"):
        table.add_column(column, justify="right")
    for result in results:
        for name, metric in result.metrics.items():
            low, high = metric.interval
            above = low > metric.chance
            table.add_row(
                name,
                f"[bold]{report.percent(metric.value)}[/]"
                if above
                else report.percent(metric.value),
                report.percent(metric.chance),
                f"{report.percent(low)} to {report.percent(high)}",
                str(metric.n),
            )
    return table


def _sweep_table(content: dict) -> rich.table.Table:
    table = rich.table.Table(rich.table.Column(content["header"][0], overflow="fold"))
    for column in content["header"][1:]:
        table.add_column(column, justify="right")
    for row in content["rows"]:
        table.add_row(*row)
    return table
