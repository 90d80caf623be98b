"""What ``launch/eval.py`` does: evaluates a training run, prints the table, writes the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console
import rich.table

from vljepa_jax.checkpoint import newest
from vljepa_jax.config import BenchmarkConfig, EvalConfig, StreamStudyConfig
from vljepa_jax.evals import report, stream_report
from vljepa_jax.evals.evaluate import Datasets, evaluate
from vljepa_jax.evals.gallery import make_galleries
from vljepa_jax.evals.stream_run import embed_streams, run_stream_benchmark
from vljepa_jax.inference.model import Model, load
from vljepa_jax.processes import first_process, require_same
from vljepa_jax.run_log import read_metrics


def evaluate_run(
    run_dir: Path,
    config: EvalConfig,
    benchmarks: Sequence[BenchmarkConfig],
    output: Path,
    study: StreamStudyConfig | None = None,
) -> None:
    """Evaluates the newest parameters of a run and writes report.json and report.html.

    All processes of a job embed a share each, and the first alone writes and speaks.

    Args:
        config: settings of the evaluation.
        benchmarks: those of ``config`` that are run now.
        output: directory of the report. Metrics there that are not measured again are kept, if
            they are of the same run and settings.
        study: of selective decoding on the world's streams; ``None`` leaves it out.

    Raises:
        CheckpointError, ConfigError, EvaluationError: see what is called.
    """
    model = _load(run_dir, config)
    train = model.config
    datasets = Datasets(config.world, config.num_workers)
    results = evaluate(model, benchmarks, datasets)
    embedded = [] if study is None else embed_streams(model, study, config.world)
    if not first_process():
        return
    previous = report.read_report(output)
    made = report.make_report(previous, run_dir, train, config, results)
    streams = None
    if study is not None:
        streams = run_stream_benchmark(model, embedded, study, config.world)
    if streams is not None:
        made["streams"] = stream_report.as_json(streams)
        made["metrics"].update(stream_report.metrics(streams, study))
    unreadable = {str(clip): why for result in results for clip, why in result.unreadable.items()}
    galleries = make_galleries(results, datasets)
    extra = stream_report.stream_sections(made["streams"], streams) if "streams" in made else []
    page = report.sections(made, read_metrics(run_dir), galleries, unreadable, extra)
    report.write_report(output, made, _title(run_dir), page)
    if streams is not None:
        stream_report.save_pictures(output, made["streams"], streams)
    measured = [name for result in results for name in result.metrics]
    measured += [] if streams is None else stream_report.metrics(streams, study)
    console = rich.console.Console()
    console.print(_results_table({name: made["metrics"][name] for name in measured}))
    if model.text_decoder is None and any(b.protocol == "caption" for b in benchmarks):
        console.print(
            f"'{run_dir}' has no Y-Decoder in y_decoder/: captions are the nearest texts alone.",
            style="yellow",
        )
    for name in measured:
        if caveat := made["metrics"][name].get("caveat"):
            console.print(f"{name} says little: {caveat}", style="yellow", highlight=False)
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
    runs = []
    for values, config in settings:
        model = _load(run_dir, config)
        results = evaluate(model, config.benchmarks, Datasets(config.world, config.num_workers))
        measured = report.make_report({}, run_dir, model.config, config, results)
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


def _load(run_dir: Path, config: EvalConfig) -> Model:
    require_same(f"newest checkpoint of '{run_dir}'", str(newest(run_dir)))
    return load(run_dir, frames=config.frames, batch_size=config.batch_size)


def _title(run_dir: Path) -> str:
    return f"VL-JEPA: {run_dir.resolve().name}"


def _results_table(metrics: Mapping[str, Mapping[str, Any]]) -> rich.table.Table:
    table = rich.table.Table(rich.table.Column("metric", overflow="fold"))
    for column in ("value", "chance", "95 % interval", "n"):
        table.add_column(column, justify="right")
    for name, metric in metrics.items():
        value, chance, low, high = (
            report.shown(number, metric["unit"])
            for number in (metric["value"], metric["chance"], *metric["interval"])
        )
        bold = f"[bold]{value}[/]" if report.above_chance(metric) else value
        table.add_row(name, bold, chance, f"{low} to {high}", str(metric["n"]))
    table.caption = "Shares in percent, CIDEr x 100, ratios with ×."
    return table


def _sweep_table(content: dict) -> rich.table.Table:
    table = rich.table.Table(rich.table.Column(content["header"][0], overflow="fold"))
    for column in content["header"][1:]:
        table.add_column(column, justify="right")
    for row in content["rows"]:
        table.add_row(*row)
    return table
