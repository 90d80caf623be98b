"""Shares written by Apache Beam, on any of its runners: pip install 'vljepa_jax[beam]'.

    job = ShareJob.plan(source, options, "gs-mounted/datasets/datacomp", "datacomp")
    run(job, PipelineOptions(["--runner=FlinkRunner", ...]))

The output is a disk that all workers share. A share is one element of the pipeline, and
``write_share`` its only step, so that Beam gives the same bytes as a process pool, tries again what
fails, and may write a share twice.
"""

from __future__ import annotations

import functools
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from vljepa_jax.data.share_writer import ShareJob, write_share


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
