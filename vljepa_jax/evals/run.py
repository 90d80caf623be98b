"""Evaluation from a model to its report: runs benchmarks, prints the table, writes the pages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console
import rich.table
from rich.text import Text

from vljepa_jax import terminal
from vljepa_jax.config import BenchmarkConfig, ConfigError, EvalConfig, StreamStudyConfig
from vljepa_jax.data.datasets import AbsentDatasetError
from vljepa_jax.evals import page, report
from vljepa_jax.evals.benchmarks import STREAM, with_frames
from vljepa_jax.evals.calibration import share_unlike
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.evaluate import Result, divide, require_same_model
from vljepa_jax.evals.examples import NoExamplesError
from vljepa_jax.evals.gallery import make_galleries
from vljepa_jax.evals.results import measure
from vljepa_jax.evals.streams import report as stream_report
from vljepa_jax.evals.streams.run import embed_streams, open_sets, run_stream_benchmark
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.parallel.processes import first_process


def write_evaluation(
    model: Embedder,
    config: EvalConfig,
    benchmarks: Sequence[BenchmarkConfig],
    output: Path,
    study: StreamStudyConfig | None = None,
    *,
    skip_empty: bool = False,
    cache: Path | None = None,
    again: bool = False,
) -> None:
    """Evaluates a model and writes report.json and report.html.

    A benchmark's result is written as soon as it is scored, and one that is there already, of the
    same model, settings and dataset, is taken as it is.

    All processes of a job embed a share each, and the first alone writes and speaks.

    Args:
        config: settings of the evaluation; ``model`` has the frames and batch size that it says.
        benchmarks: those of ``config`` that are run now.
        output: directory of the report. Metrics there that are not measured again are kept, if
            they are of the same model and settings.
        study: of selective decoding on streams; ``None`` leaves it out.
        skip_empty: skips benchmarks that their dataset has nothing for, and tells which; else
            such a benchmark is an error.
        cache: directory of embeddings that are kept; ``None`` for none.
        again: measures what is done too.

    Raises:
        ConfigError, DatasetError, EvaluationError: see what is called.
    """
    require_same_model(model)
    datasets = Datasets(config.world, config.num_workers, config.data)
    benchmarks = with_frames(config, benchmarks)
    skipped: dict[str, str] = {}
    if skip_empty:
        benchmarks, skipped = divide(benchmarks, datasets, alone=study is None)
    streams_found = []
    try:
        streams_found = [] if study is None else open_sets(study, config.world, config.data)
    except (AbsentDatasetError, NoExamplesError) as error:
        if not skip_empty:
            raise
        study, skipped[STREAM] = None, str(error)
        if not benchmarks:
            reasons = ["there is nothing to evaluate on:", *skipped.values()]
            raise ConfigError("\n  ".join(reasons)) from error
    previous = report.read_report(output)

    def made_of(results: Sequence[Result]) -> dict[str, Any]:
        return report.make_report(previous, model, config, results, skipped)

    results, done = measure(
        model,
        benchmarks,
        datasets,
        output,
        cache=cache,
        again=again,
        scored=lambda results: report.write_json(output, made_of(results)),
    )
    embedded = [] if study is None else embed_streams(model, study, streams_found)
    if not first_process():
        return
    made = made_of(results)
    streams = None
    if study is not None:
        streams = run_stream_benchmark(model, embedded, study)
    if streams is not None:
        made["streams"] = stream_report.as_json(streams)
        made["metrics"].update(stream_report.metrics(streams, study))
    unreadable = {str(clip): why for result in results for clip, why in result.unreadable.items()}
    if model.calibration is not None:
        made["unlike"] = made.get("unlike", {}) | share_unlike(model, results, datasets)
    galleries = make_galleries(results, datasets)
    extra = stream_report.stream_sections(made, streams) if "streams" in made else []
    sections = page.sections(made, _curves(model), galleries, unreadable, extra)
    kinds = dict.fromkeys(name.partition("/")[0] for name in made["metrics"] if "/" in name)
    title = _title(model) + (f": {', '.join(kinds)}" if kinds else "")
    report.write_report(output, made, title, sections)
    if streams is not None:
        stream_report.save_pictures(output, made["streams"], streams)
    measured = [name for result in results for name in result.metrics]
    measured += [] if streams is None else stream_report.metrics(streams, study)
    console = terminal.PlainConsole()
    console.print(_results_table({name: made["metrics"][name] for name in measured}))
    _print_done(console, done)
    for note in dict.fromkeys(note for result in results for note in result.notes):
        _warn(console, note)
    for name in measured:
        metric = made["metrics"][name]
        if reason := metric.get("undefined"):
            _warn(console, f"{name} has no value: {reason}")
        if caveat := metric.get("caveat"):
            _warn(console, f"{name} says little: {caveat}")
        if part := page.partial(metric):
            _warn(console, f"{name} is {part}")
    _print_skipped(console, skipped)
    for line in page.unlike_training(made):
        _warn(console, line)
    for why in unreadable.values():
        _warn(console, f"unreadable, counted as wrong: {why}")
    lost = (
        {} if streams is None else {k: w for own in streams.sets for k, w in own.unreadable.items()}
    )
    for why in lost.values():
        _warn(console, f"unreadable, left out: {why}")
    console.print(f"report: {output / 'report.html'}", highlight=False, soft_wrap=True)


def write_sweep(
    load: Callable[[EvalConfig], Embedder],
    fields: Sequence[str],
    settings: Sequence[tuple[tuple[str, ...], EvalConfig]],
    output: Path,
    *,
    skip_empty: bool = False,
    cache: Path | None = None,
    again: bool = False,
) -> None:
    """Evaluates a model once for each setting and writes one report that tabulates them.

    What is measured is written; killed and started again, a sweep goes on there.

    Args:
        load: the model with the frames and batch size that a config says.
        fields: swept fields.
        settings: their values, and the config that has them.
        output: the report goes into a folder of its own there.
        skip_empty, cache, again: as in ``write_evaluation``.
    """
    runs: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    console = terminal.PlainConsole()
    directory = output / _plain("sweep_" + "_".join(fields))
    for values, config in settings:
        model = load(config)
        require_same_model(model)
        datasets = Datasets(config.world, config.num_workers, config.data)
        benchmarks = with_frames(config, config.benchmarks)
        if skip_empty:
            benchmarks, empty = divide(benchmarks, datasets)
            skipped |= empty
        results, done = measure(
            model,
            benchmarks,
            datasets,
            directory / _folder(page.setting_name(fields, values)),
            cache=cache,
            again=again,
            scored=lambda _: None,
        )
        if not first_process():
            continue
        measured = report.make_report({}, model, config, results, skipped)
        runs.append({"values": list(values), "metrics": measured["metrics"]})
        made = measured | {"metrics": {}, "sweep": {"fields": list(fields), "runs": runs}}
        sections = page.sections(made, _curves(model), [], {})
        report.write_report(directory, made, f"{_title(model)}, sweep", sections)
        _print_done(console, [f"{name} ({page.setting_name(fields, values)})" for name in done])
    if not first_process():
        return
    console.print(sweep_table(made["sweep"]))
    _print_skipped(console, skipped)
    console.print(f"report: {directory / 'report.html'}", highlight=False, soft_wrap=True)


def _folder(name: str) -> str:
    """A folder's name for a setting, whose values may be long and hold any signs."""
    return f"{_plain(name)[:60]}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9=._-]+", "_", name)


def _print_done(console: rich.console.Console, done: Sequence[str]) -> None:
    if done:
        console.print(
            f"measured before, with the same model, settings and data: {', '.join(done)}; "
            "--again measures anew",
            highlight=False,
        )


def _warn(console: rich.console.Console, text: str) -> None:
    """A line of its own, however long: names are found in it where it is piped to a program."""
    console.print(text, style="yellow", highlight=False, soft_wrap=True)


def _print_skipped(console: rich.console.Console, skipped: Mapping[str, str]) -> None:
    for why in skipped.values():
        _warn(console, f"skipped: {why}")


def _title(model: Embedder) -> str:
    """E.g. "VL-JEPA demo, step 400"."""
    card = model.card
    named = " ".join(filter(None, (card["kind"], card["name"])))
    return named if card.get("step") is None else f"{named}, step {card['step']:,}"


def _curves(model: Embedder) -> list[dict[str, Any]]:
    history = model.history
    return [] if history is None else history.curves


def _results_table(metrics: Mapping[str, Mapping[str, Any]]) -> rich.table.Table:
    table = rich.table.Table(rich.table.Column("metric", overflow="fold"))
    for column in ("value", "chance", "95 % interval", "n"):
        table.add_column(column, justify="right")
    for name, metric in metrics.items():
        value, chance, low, high = (
            page.shown(number, metric["unit"])
            for number in (metric["value"], metric["chance"], *(metric["interval"] or (None, None)))
        )
        within = f"{low} to {high}" if metric["interval"] else "–"
        bold = Text(value, "bold") if page.above_chance(metric) else value
        table.add_row(name, bold, chance, within, str(metric["n"]))
    table.caption = "Shares in percent, CIDEr x 100, ratios with ×."
    return table


def sweep_table(sweep: Mapping[str, Any]) -> rich.table.Table:
    """A metric a row, a setting a column; "skipped" where a setting leaves nothing to measure."""
    table = rich.table.Table(rich.table.Column("metric", overflow="fold"))
    runs = sweep["runs"]
    for run in runs:
        # A field a line: several settings stand side by side in 80 columns.
        setting = page.setting_name(sweep["fields"], run["values"])
        table.add_column(setting.replace(", ", "\n"), justify="right")
    for name in dict.fromkeys(name for run in runs for name in run["metrics"]):
        metrics = (run["metrics"].get(name) for run in runs)
        table.add_row(
            name, *(page.shown(m["value"], m["unit"]) if m else "skipped" for m in metrics)
        )
    return table
