"""The paper's tables with columns of one's own: reports beside figures that the paper gives.

``paper_results.json`` has the paper's figures, by table: each column names the metric of
``configs/eval/paper.py`` that measures it.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vljepa_jax.evals import page, report
from vljepa_jax.evals.comparison import Difference, compare, compare_averages
from vljepa_jax.places import write_text

_NOTHING = "–"
_CITED, _MEASURED = "cited", "measured"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A figure in a table.

    Attributes:
        text: what is shown.
        note: what limits it; "" for nothing.
    """

    text: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as it is drawn.

    Attributes:
        title: heading.
        columns: headings; the first is that of the rows' names.
        rows: a cell a column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def notes(self) -> list[str]:
        """All that limits a figure, each once, numbered from 1 where they are shown."""
        return list(dict.fromkeys(cell.note for row in self.rows for cell in row if cell.note))


def read_paper() -> dict[str, Any]:
    """The paper's figures: "source", and "tables" of "columns" and "rows"."""
    file = importlib.resources.files("vljepa_jax.evals") / "paper_results.json"
    return json.loads(file.read_text())


def read_runs(directories: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Reports by the names that they are shown under.

    Raises:
        ConfigError: a directory has no report with metrics, or a damaged one.
    """
    return {name: report.read_measured(path) for name, path in directories.items()}


def write_tables(
    directories: Mapping[str, Path], output: Path, pairs: Sequence[tuple[str, str]] = ()
) -> list[Table]:
    """Writes tables.md, tables.html and tables.csv.

    Args:
        directories: of reports, by name.
        pairs: names of runs that are compared pair by pair.

    Raises:
        ConfigError, EvaluationError: a report or predictions are missing, or damaged.
    """
    runs, paper = read_runs(directories), read_paper()
    tables = [_paper_table(table, runs) for table in paper["tables"]]
    tables = [table for table in tables if table is not None]
    if (others := _other_metrics(paper, runs)) is not None:
        tables.append(others)
    for first, second in pairs:
        both = directories[first], directories[second]
        differences = compare(*both)
        differences += filter(None, (_averages(table, *both) for table in paper["tables"]))
        tables.append(_difference_table(first, second, differences))
    output.mkdir(parents=True, exist_ok=True)
    cited = f'Rows marked "{_CITED}" are from the paper: {paper["source"]}.'
    write_text(output / "tables.md", "\n".join([cited, "", *map(markdown, tables)]))
    write_text(output / "tables.csv", as_csv(tables))
    sections = [page.Section(table.title, "", "grid", _drawn(table)) for table in tables]
    sections[0] = dataclasses.replace(sections[0], intro=cited)
    write_text(output / "tables.html", page.render("Tables", report.environment(), sections))
    return tables


def markdown(table: Table) -> str:
    """A table in Markdown, its notes below."""
    numbers = {note: index for index, note in enumerate(table.notes, 1)}

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rows = [
        line([cell.text + (f" ({numbers[cell.note]})" if cell.note else "") for cell in row])
        for row in table.rows
    ]
    ruler = line(["---", *["---:"] * (len(table.columns) - 1)])
    notes = [f"({number}) {note}" for note, number in numbers.items()]
    below = ["", "  \n".join(notes)] if notes else []
    return "\n".join([f"## {table.title}", "", line(table.columns), ruler, *rows, *below, ""])


def as_csv(tables: Sequence[Table]) -> str:
    """A figure a line: table, row, column, what is shown, note."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("table", "row", "column", "value", "note"))
    for table in tables:
        for name, *cells in table.rows:
            for column, cell in zip(table.columns[1:], cells, strict=True):
                value = "" if cell.text == _NOTHING else cell.text
                writer.writerow((table.title, name.text, column, value, cell.note))
    return file.getvalue()


def _drawn(table: Table) -> dict[str, Any]:
    """Content of the block "grid" of the page."""
    notes = table.notes
    return {
        "columns": table.columns,
        "rows": [
            [(cell.text, notes.index(cell.note) + 1 if cell.note else None) for cell in row]
            for row in table.rows
        ],
        "notes": notes,
    }


def _paper_table(table: Mapping[str, Any], runs: Mapping[str, Any]) -> Table | None:
    """One of the paper's tables with a row for each run; ``None`` where no run measured any."""
    metrics = [column["metric"] for column in table["columns"]]
    measured = {name: run for name, run in runs.items() if set(metrics) & run["metrics"].keys()}
    if not measured:
        return None
    sized = "parameters" in table["rows"][0]
    columns = ["model", "from", *(["parameters", "samples seen"] if sized else [])]
    columns += [column["name"] for column in table["columns"]]
    columns += ["average"] if table["average"] else []
    rows = []
    for row in table["rows"]:
        cells = [row["name"], _CITED]
        cells += [row["parameters"] or _NOTHING, row["samples_seen"] or _NOTHING] if sized else []
        figures = [*row["values"], *([row["average"]] if table["average"] else [])]
        cells += [_NOTHING if figure is None else f"{figure:.1f}" for figure in figures]
        rows.append(tuple(map(Cell, cells)))
    for name, run in measured.items():
        cells = [Cell(name), Cell(_MEASURED)]
        cells += [Cell(_size(run["model"])), Cell(_NOTHING)] if sized else []
        found = [run["metrics"].get(metric) for metric in metrics]
        cells += map(_cell, found)
        cells += [_average(found)] if table["average"] else []
        rows.append(tuple(cells))
    return Table(table["title"], tuple(columns), tuple(rows))


def _cell(metric: Mapping[str, Any] | None) -> Cell:
    if metric is None:
        return Cell(_NOTHING)
    reason = metric.get("undefined", "")
    notes = filter(None, (reason and f"{reason}.", page.what_is_missing(metric)))
    return Cell(page.shown(metric["value"], metric["unit"]), " ".join(notes))


def _average(metrics: Sequence[Mapping[str, Any] | None]) -> Cell:
    """The mean of whole benchmarks; of others there is none, and a note says why."""
    there = [metric for metric in metrics if metric is not None and metric["value"] is not None]
    parts = sum(bool(page.what_is_missing(metric)) for metric in there)
    if len(there) < len(metrics) or parts:
        why = f"No average: {len(there)} of {len(metrics)} were measured"
        return Cell(_NOTHING, f"{why}, {parts} of these in part." if parts else f"{why}.")
    mean = np.mean([metric["value"] for metric in there])
    return Cell(page.shown(float(mean), there[0]["unit"]))


def _averages(table: Mapping[str, Any], first: Path, second: Path) -> Difference | None:
    """How two runs differ in the average of one of the paper's tables that has one."""
    if not table["average"]:
        return None
    metrics = [column["metric"] for column in table["columns"]]
    return compare_averages(table["title"], metrics, first, second)


def _size(card: Mapping[str, Any]) -> str:
    """ "1.6B", "24.1M"."""
    count = card.get("parameters")
    if not count:
        return _NOTHING
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.1f}M"


def _other_metrics(paper: Mapping[str, Any], runs: Mapping[str, Any]) -> Table | None:
    """What the runs measured beside the paper's columns, a metric a row."""
    known = {column["metric"] for table in paper["tables"] for column in table["columns"]}
    names = dict.fromkeys(
        name for run in runs.values() for name in run["metrics"] if name not in known
    )
    if not names:
        return None
    rows = []
    for name in names:
        cells = [Cell(name)]
        for run in runs.values():
            metric = run["metrics"].get(name)
            cell = _cell(metric)
            if metric is not None:
                interval = page.shown_interval(metric["interval"], metric["unit"])
                cell = dataclasses.replace(cell, text=f"{cell.text} ({interval})")
            cells.append(cell)
        rows.append(tuple(cells))
    return Table("All else that was measured, with 95 % intervals", ("metric", *runs), tuple(rows))


def _difference_table(first: str, second: str, differences: Sequence[Difference]) -> Table:
    rows = []
    for found in differences:
        notes = [f"{found.undefined}."] if found.undefined else []
        if any(found.alone):
            notes.append(
                f"Partial: {found.pairs:,} examples are in both runs; {found.alone[0]:,} are in "
                f"{first} alone and {found.alone[1]:,} in {second} alone."
            )
        ends = found.interval and [f"{end:+.1f}" for end in found.interval]
        texts = (
            *(page.shown(mean, "cider") for mean in (found.first, found.second)),
            _NOTHING if found.difference is None else f"{found.difference:+.1f}",
            " to ".join(ends) if ends else _NOTHING,
            f"{found.pairs:,}",
        )
        name = Cell(f"{found.benchmark} {found.measure.removeprefix('_')}", " ".join(notes))
        rows.append((name, *map(Cell, texts)))
    return Table(
        f"{first} against {second}, pair by pair: right in percent, CIDEr × 100",
        ("benchmark", first, second, "difference", "95 % interval", "pairs"),
        tuple(rows),
    )
