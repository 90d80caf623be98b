"""Shares written by Apache Beam, on any of its runners: pip install 'vljepa_jax[beam]'.

    source = group(source, "gs-mounted/rows", 64, options)  # where rows are in no order
    job = ShareJob.plan(source, options, "gs-mounted/datasets/datacomp", "datacomp")
    run(job, PipelineOptions(["--runner=FlinkRunner", ...]))

The output is a disk that all workers share. A share is one element of the pipeline, and
``write_share`` its only step, so that Beam gives the same bytes as a process pool, tries again what
fails, and may write a share twice.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from vljepa_jax.data.grouped_rows import GroupedRows, pack, write_rows
from vljepa_jax.data.share_writer import ShareJob, write_share
from vljepa_jax.data.shares import Piece, RecordSource, SourceError, readable


class WriteShares(beam.PTransform):
    """(index, share) -> the report of ``write_share``."""

    def __init__(self, job: ShareJob):
        super().__init__()
        self._write = functools.partial(write_share, job.source, job.options, str(job.partial))

    def expand(self, shares: beam.PCollection) -> beam.PCollection:
        # Reshuffle: a runner may otherwise keep all that one Create gives on one worker.
        return shares | beam.Reshuffle() | beam.Map(self._write)


def run(job: ShareJob, options: PipelineOptions) -> dict[str, Any]:
    """Writes the shares that are missing, waits for them, and makes the dataset.

    Returns:
        Its card.

    Raises:
        ShareError: as ``ShareJob.finish``; what a step raises comes as the runner's error.
    """
    with beam.Pipeline(options=options) as pipeline:
        _ = pipeline | beam.Create(job.missing()) | WriteShares(job)
    return job.finish()


def group(
    source: RecordSource, directory: str, files: int, options: PipelineOptions
) -> GroupedRows:
    """Brings the rows of a source together that are about the same media.

    Args:
        directory: a folder that all workers share; it must not exist, or be empty.
        files: to divide the rows into; the rows of a file are in a worker's memory.

    Returns:
        The source of the rows so ordered. Its files depend on the source's rows alone.

    Raises:
        SourceError: there is something in the directory, or the source has no files.
    """
    os.makedirs(directory, exist_ok=True)
    if os.listdir(directory):
        raise SourceError(f"{directory} holds something already; remove it or name another")

    def write(of_file: tuple[int, Any]) -> None:
        write_rows(directory, *of_file)

    with beam.Pipeline(options=options) as pipeline:
        rows = pipeline | beam.Create(list(source.pieces())) | beam.Reshuffle()
        rows |= beam.FlatMap(functools.partial(_numbered, source, files))
        _ = rows | beam.GroupByKey() | beam.Map(write)
    return GroupedRows(source.card, os.path.abspath(directory))


def _numbered(
    source: RecordSource, files: int, piece: Piece
) -> Iterator[tuple[int, tuple[str, bytes]]]:
    """The packed rows of a piece, each with the number of its file."""
    for row in readable(source, piece):
        key, packed = pack(row)
        yield int(key, 16) % files, (key, packed)
