"""Runs the sections of a study, prints their tables, and writes report and pictures.

WORKDIR/report.json, SECTION.png or table.png      what was measured
WORKDIR/SECTION/VARIANT/seed_N/                    each training, see ``studies.runs``
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console
import rich.table

from vljepa_jax import terminal
from vljepa_jax.config import (
    ConfigError,
    StudyConfig,
    StudySection,
    Variant,
    as_dict,
    differences,
    nearest,
)
from vljepa_jax.evals.report import environment
from vljepa_jax.ownership import owned
from vljepa_jax.places import write_text
from vljepa_jax.studies.comparison import compare
from vljepa_jax.studies.pictures import draw_comparison, draw_rows
from vljepa_jax.studies.results import summarise, units
from vljepa_jax.studies.runs import StepResult, effort_of, run_variant

# What may differ between recipes that see the same data: model, loss and their rates.
_FREE = (
    *("objective", "init_from", "model.", "loss", "data.text.", "data.num_workers"),
    *("optimizer.learning_rate", "optimizer.rules", "sharding.rules", "log_every"),
    *("checkpoint.", "evaluations", "on_non_finite", "micro_batch_size"),
)


def run_study(
    study: StudyConfig, workdir: Path, only: Sequence[str], *, quick: bool
) -> dict[str, Any]:
    """Runs a study, as far as that is not done, and writes its report.

    Args:
        only: names of sections; none for all, or where it is quick, for the first.
        quick: their quick effort, into a folder of its own.

    Returns:
        The report.

    Raises:
        ConfigError: a section is unknown, recipes of one differ in data, or ``workdir`` holds
            results of other settings.
        InUse: another process runs a study there.
        CheckpointError, DatasetError, EvaluationError: see ``runs.run_variant``.
    """
    sections = select_sections(study, only, quick=quick)
    for section in sections:
        require_same_data(section)
    console = terminal.PlainConsole()
    workdir = workdir / "quick" if quick else workdir
    with owned(workdir, name=".study.lock"):
        return _run(study, sections, workdir, console, quick=quick)


def _run(
    study: StudyConfig,
    sections: Sequence[StudySection],
    workdir: Path,
    console: rich.console.Console,
    *,
    quick: bool,
) -> dict[str, Any]:
    path = workdir / "report.json"
    report = json.loads(path.read_text()) if path.is_file() else {"sections": {}}
    for section in sections:
        effort = effort_of(section, quick=quick)
        results: dict[str, dict[int, list[StepResult]]] = {}
        runs = [(v, seed) for seed in effort.seeds for v in section.variants]
        for number, (variant, seed) in enumerate(runs, 1):
            console.rule(f"{section.name}, {number} of {len(runs)}: {variant.label}, seed {seed}")
            made = run_variant(study, section, variant, seed, effort, workdir, console)
            results.setdefault(variant.name, {})[seed] = made
        summary = summarise(section, results)
        if study.report == "comparison":
            summary |= compare(study, section, results, workdir, quick=quick)
        report["sections"][section.name] = summary
        report |= {"report": study.report, "quick": quick, "environment": environment()}
        write_text(path, json.dumps(report, indent=2) + "\n")
        console.print(_table(summary))
        if study.report == "comparison":
            draw_comparison(summary, workdir / f"{section.name}.png")
        else:
            draw_rows(list(report["sections"].values()), workdir / "table.png")
        for name, value in summary.get("comparison", {}).items():
            console.print(f"{name}: {_shown(value)}", highlight=False)
    console.print(f"report: {path}", highlight=False)
    return report


def select_sections(
    study: StudyConfig, only: Sequence[str], *, quick: bool
) -> tuple[StudySection, ...]:
    """Sections by name, in the config's order; raises ConfigError for an unknown one.

    Without names all of them, or the first where it is to be quick: each section has a world to
    make and heads and decoders to train, which no lower number of steps makes cheaper.
    """
    names = [section.name for section in study.sections]
    for name in only:
        if name not in names:
            raise ConfigError(
                f"--only: no section '{name}'{nearest(name, names)}; there are {', '.join(names)}"
            )
    if quick and not only:
        return study.sections[:1]
    return tuple(section for section in study.sections if not only or section.name in only)


def require_same_data(section: StudySection) -> None:
    """Refuses a comparison whose recipes differ in what they are trained on, and how long.

    Raises:
        ConfigError: it names the recipes and the differing fields.
    """
    if not section.same_data:
        return
    first, *others = section.variants
    for other in others:
        faults = data_differences(first, other)
        if faults:
            raise ConfigError(
                f"section '{section.name}' compares recipes on the same data, but "
                f"'{first.name}' and '{other.name}' differ in:\n  " + "\n  ".join(faults)
            )


def data_differences(one: Variant, other: Variant) -> list[str]:
    """The fields in which two recipes differ beyond model, loss and rates."""
    faults = [
        fault for fault in differences(_plain(one), _plain(other)) if not fault.startswith(_FREE)
    ]
    return faults + [
        f"{name}: {getattr(one.train.model, name)!r} -> {getattr(other.train.model, name)!r}"
        for name in ("x_encoder", "dtype")
        if getattr(one.train.model, name) != getattr(other.train.model, name)
    ]


def _plain(variant: Variant) -> dict[str, Any]:
    text = variant.train.data.text
    query = getattr(text, "query_tokenizer", None) or text.tokenizer
    seen = {"query_tokenizer": query, "query_length": text.query_length}
    return as_dict(variant.train) | {"text": seen, "x_encoder": variant.start.get("x_encoder")}


# ---------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------
def _table(summary: Mapping[str, Any]) -> rich.table.Table:
    """A variant a row, a column with its interval a column, and the paper's figure beside it."""
    table = rich.table.Table(title=summary["title"])
    table.add_column("variant", overflow="fold")  # a name is never cut
    for column in summary["columns"]:
        table.add_column(column, justify="right", overflow="fold")
        table.add_column("paper", justify="right", style="dim")
    scale = units(summary["columns"])
    for variant in summary["variants"].values():
        cells = []
        for column, found in variant["columns"].items():
            numbers = (found["value"], *found["interval"])
            texts = ["–" if n is None else f"{scale[column] * n:.1f}" for n in numbers]
            cells.append("{} ({} to {})".format(*texts))
            paper = found["paper"]
            cells.append("" if paper is None else f"{scale[column] * paper:.1f}")
        table.add_row(variant["label"], *cells)
    table.caption = "95 % intervals over clips and seeds; the paper's figures are of its own data."
    return table


def _shown(found: Mapping[str, Any]) -> str:
    value, interval = found["value"], found.get("interval")
    text = "unknown" if value is None else f"{value:.2f}"
    if interval:
        text += " ({} to {})".format(*("?" if end is None else f"{end:.2f}" for end in interval))
    return text + (f": {found['reason']}" if found.get("reason") else "")
