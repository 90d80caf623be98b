"""The command ``launch/prepare.py --dataset`` for sources to train on: share by share."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Literal

import rich.box
import rich.console
import rich.progress
import rich.table
import rich.text

from vljepa_jax.data.checked_media import MediaCheck
from vljepa_jax.data.records import shown
from vljepa_jax.data.share_writer import SHARE_BYTES, ShareJob, ShareOptions, describe
from vljepa_jax.data.shares import SourceError
from vljepa_jax.data.transcode import Encoding
from vljepa_jax.datasets.columns import Columns
from vljepa_jax.datasets.training_sources import NOT_PUBLISHED, SOURCES


def plan(
    name: str,
    *,
    root: str,
    output: str,
    columns: Sequence[str] = (),
    task: str = "",
    embed: bool = True,
    decode: bool = True,
    on_error: Literal["skip", "refuse"] = "skip",
    share_bytes: int = SHARE_BYTES,
    encoding: Encoding | None = None,
    margin: float = 0.0,
) -> ShareJob:
    """The job of a source, for ``run`` or for ``data.beam_pipeline.run``.

    Args:
        name: one of ``SOURCES``.
        root: the folder with its layout.
        output: a dataset to write, of one split, "train".
        columns: as ``Columns.parse`` takes them.
        task: of conversations; "" for what they look like.
        embed, decode, encoding, margin: as ``MediaCheck``.
        on_error: as ``ShareOptions``.
        share_bytes: of the source's files, that make a share.

    Raises:
        SourceError: the source takes no such option, or has no files; or nothing is embedded that
            could be encoded.
        FileExistsError, ShareError: as ``ShareJob.plan``.
    """
    if not embed and (encoding or margin):
        raise SourceError("--noembed leaves videos where they are, neither encoded nor trimmed")
    source = SOURCES[name].open(os.path.abspath(root), Columns.parse(columns), task)
    options = ShareOptions("train", MediaCheck(embed, decode, encoding, margin), on_error)
    dataset = os.path.basename(os.path.abspath(output))
    return ShareJob.plan(source, options, output, dataset, share_bytes)


def run(job: ShareJob, *, shard: str, num_workers: int, console: rich.console.Console) -> None:
    """Writes what is missing of a dataset, and shows its card.

    Args:
        shard: "i/n" writes the i-th of n parts of the shares, from 0, and makes no dataset; "" all.
        num_workers: processes; 0 writes in this one.

    Raises:
        SourceError: ``shard`` is none.
        ShareError, OSError: as ``ShareJob``; what is written stays.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", shard or "0/1")
    if not found or not int(found[1]) < int(found[2]):
        raise SourceError(f"--shard={shard}: write i/n, with i from 0 to n - 1")
    missing = job.missing(int(found[1]), int(found[2]))
    if len(missing) < len(job.shares):
        console.print(f"{len(missing)} of {len(job.shares)} shares are to be written.")
    with _progress(console) as bars:
        bar = bars.add_task("Shares", total=len(missing))
        for _ in job.write(missing, num_workers):
            bars.advance(bar)
    if shard:
        console.print("Once all are written, the command without --shard makes the dataset.")
        return
    table = rich.table.Table(
        title=rich.text.Text(shown(str(job.output)), "bold"), show_header=False
    )
    table.add_column()
    table.add_column(justify="right")
    for line in describe(job.finish()):
        table.add_row(*line)
    console.print(table)


def show_list(console: rich.console.Console) -> None:
    """Prints which sources there are, what each needs, and which are not published."""
    table = rich.table.Table(
        title="to train on, share by share", box=rich.box.SIMPLE, show_lines=True
    )
    table.add_column("name", no_wrap=True)
    table.add_column("what it is, and needs below --root", overflow="fold")
    for source in SOURCES.values():
        table.add_row(
            source.name,
            rich.text.Text("\n".join(filter(None, (source.title, *source.layout, source.home)))),
        )
    for name, reason in NOT_PUBLISHED.items():
        table.add_row(rich.text.Text(name), rich.text.Text(f"no public format: {reason}"))
    console.print(table)


def _progress(console: rich.console.Console) -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        console=console,
    )
