"""Manifests over ordinary files -> a dataset of records, with every fault told.

Rows of the same media become one record, so that a video with ten questions is stored once.
With embedding, a record holds the bytes of its media and the dataset can be moved and the files
deleted; a span of a longer video is cut out by copying its packets (``cut.cut``), so that ten spans
of an hour are not ten hours, and no frame is encoded anew. Without, a record holds
absolute paths, and nothing is copied.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import rich.console
import rich.progress
import rich.table
import rich.text

from vljepa_jax.data.checked_media import MediaCheck, moved, sound_part
from vljepa_jax.data.manifest import CheckedRow, Fault, Manifest, ManifestError
from vljepa_jax.data.process_pool import ProcessPool
from vljepa_jax.data.records import Label, Medium, Record, shown
from vljepa_jax.data.storage import write_dataset

# Fewer media than this are read in this process: starting others would take longer.
_FEW = 64
_SHOWN_FAULTS = 20


@dataclasses.dataclass(frozen=True)
class PreparationSummary:
    """Counts of what became of the rows.

    Attributes:
        rows: read.
        records: written, by split.
        annotations: written.
        faults: of the rows that were skipped.
    """

    rows: int
    records: Mapping[str, int]
    annotations: int
    faults: tuple[Fault, ...]


def prepare(
    manifests: Sequence[Manifest],
    output: str | os.PathLike[str],
    *,
    name: str,
    on_error: Literal["skip", "refuse"],
    embed: bool,
    num_workers: int,
    console: rich.console.Console,
) -> PreparationSummary:
    """Checks every row and every medium, then writes the dataset; shows progress and a table.

    Args:
        manifests: may share a split.
        output: the dataset's directory, which must not exist. The rows that were skipped are
            told in its ``skipped.jsonl``.
        on_error: with "refuse", any fault stops it before anything is written.
        embed: whether records hold the bytes of their media, or their paths.
        num_workers: processes that open media; 0 opens them in this one.

    Raises:
        FileExistsError: ``output`` exists.
        InUse: another process is writing it.
        ManifestError: rows are faulty and ``on_error`` is "refuse"; or no row is left.
    """
    if pathlib.Path(output).exists():
        raise FileExistsError(f"{output} exists; remove it or name another directory")
    labels = _merge_labels(manifests)
    rows, faults = _read_rows(manifests)
    read = len(rows) + len(faults)
    places = {row.annotation.id: row for _, row in rows}
    groups = _group(rows)
    media = sum(len(record.media) for group in groups.values() for record in group)
    counts, annotations = dict.fromkeys(groups, 0), 0

    def approve(directory: pathlib.Path) -> None:
        if faults and on_error == "refuse":
            raise ManifestError(
                f"{len(faults)} of {read} rows are faulty and nothing was written; mend them, or "
                "leave them out with --on_error=skip"
            )
        if not annotations:
            raise ManifestError(f"none of {read} rows can be used; nothing was written")
        faults.sort(key=_place)
        if faults:
            with open(directory / "skipped.jsonl", "w", encoding="utf-8") as file:
                file.writelines(json.dumps(dataclasses.asdict(fault)) + "\n" for fault in faults)

    with ProcessPool(num_workers if media >= _FEW else 0) as pool, _progress(console) as bars:
        bar = bars.add_task("Reading and writing", total=sum(map(len, groups.values())))

        def sound(split: str) -> Iterator[Record]:
            nonlocal annotations
            for record, reasons in pool.map(MediaCheck(embed), groups[split]):
                bars.advance(bar)
                kept, refused = sound_part(record, reasons)
                faults.extend(
                    Fault(places[name].manifest, places[name].number, name, "unreadable", reason)
                    for name, reason in refused.items()
                )
                if kept.annotations:
                    counts[split] += 1
                    annotations += len(kept.annotations)
                    yield kept

        try:
            write_dataset(
                output,
                {split: sound(split) for split in groups},
                name=name,
                description=f"Prepared from {', '.join(m.path.name for m in manifests)}",
                labels=labels,
                license=_distinct(manifest.license for manifest in manifests),
                metric=_distinct(manifest.metric for manifest in manifests),
                sources=[source for manifest in manifests for source in manifest.sources],
                approve=approve,
            )
        finally:
            faults.sort(key=_place)
            _show_faults(console, faults)
    counts = {split: count for split, count in counts.items() if count}
    summary = PreparationSummary(read, counts, annotations, tuple(faults))
    console.print(_table(summary, output))
    return summary


def _distinct(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, texts)))


def _place(fault: Fault) -> tuple[str, int]:
    return fault.manifest, fault.row


def _read_rows(manifests: Sequence[Manifest]) -> tuple[list[tuple[str, CheckedRow]], list[Fault]]:
    """The rows with their splits, and the faults; an id that is there already is one."""
    rows: list[tuple[str, CheckedRow]] = []
    faults: list[Fault] = []
    seen: dict[str, str] = {}
    for manifest in manifests:
        for row in manifest.rows():
            if isinstance(row, Fault):
                faults.append(row)
                continue
            identity = row.annotation.id
            if identity in seen:
                reason = f"the id '{identity}' is that of {seen[identity]}"
                faults.append(Fault(row.manifest, row.number, identity, "duplicate id", reason))
                continue
            seen[identity] = f"row {row.number} of {row.manifest}"
            rows.append((manifest.split, row))
    return rows, faults


def _merge_labels(manifests: Sequence[Manifest]) -> dict[str, tuple[Label, ...]]:
    merged: dict[str, tuple[Label, ...]] = {}
    for manifest in manifests:
        for name, labels in manifest.labels.items():
            if merged.setdefault(name, labels) != labels:
                raise ManifestError(f"{manifest.path}: its label set '{name}' is another one too")
    return merged


def _group(rows: Sequence[tuple[str, CheckedRow]]) -> dict[str, list[Record]]:
    """Rows of the same inputs -> one record with their annotations, in the order of the first."""
    groups: dict[tuple[str, tuple[Medium, ...] | str], list[CheckedRow]] = {}
    for split, row in rows:
        inputs = tuple(row.media[i] for i in row.annotation.inputs)
        groups.setdefault((split, inputs or row.annotation.id), []).append(row)
    records: dict[str, list[Record]] = {split: [] for split, _ in rows}
    for (split, _), members in groups.items():
        media = tuple(dict.fromkeys(medium for row in members for medium in row.media))
        place = {medium: index for index, medium in enumerate(media)}
        annotations = [
            moved(row.annotation, {i: place[medium] for i, medium in enumerate(row.media)})
            for row in members
        ]
        records[split].append(Record(members[0].annotation.id, media, tuple(annotations)))
    return records


def _progress(console: rich.console.Console) -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        _RateColumn(),
        rich.progress.TimeRemainingColumn(),
        console=console,
    )


class _RateColumn(rich.progress.ProgressColumn):
    """Items a second."""

    def render(self, task: rich.progress.Task) -> str:
        speed = task.finished_speed or task.speed
        return f"{speed:.{0 if speed >= 10 else 1}f}/s" if speed else ""


def _show_faults(console: rich.console.Console, faults: Sequence[Fault]) -> None:
    for fault in faults[:_SHOWN_FAULTS]:
        # Not a str, in which rich would look for colours and emoji.
        console.print(rich.text.Text(str(fault), "yellow"), soft_wrap=True)
    if len(faults) > _SHOWN_FAULTS:
        console.print(f"... and {len(faults) - _SHOWN_FAULTS} more faulty rows", style="yellow")


def _table(summary: PreparationSummary, output: str | os.PathLike[str]) -> rich.table.Table:
    title = rich.text.Text(shown(str(output)), "bold")
    table = rich.table.Table(title=title, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("rows read", str(summary.rows))
    table.add_row("annotations written", str(summary.annotations))
    for split, count in summary.records.items():
        table.add_row(f"records written, split '{split}'", str(count))
    kinds = collections.Counter(fault.kind for fault in summary.faults)
    for kind, count in kinds.most_common():
        table.add_row(f"skipped: {kind}", str(count))
    return table
