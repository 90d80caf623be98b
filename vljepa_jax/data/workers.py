"""Decoding processes: chunks of work handed to Grain's workers, read ahead and in order."""

from __future__ import annotations

import contextlib
import functools
import gc
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import grain
import numpy as np
from absl import flags

from vljepa_jax import host
from vljepa_jax.config import VideoInput
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.storage import Source
from vljepa_jax.data.token_cache import Clip
from vljepa_jax.data.video import load_clip

T = TypeVar("T")

# Examples that a worker hands over at a time: few enough to be ready soon, enough to pay.
CHUNK = 8
# Batches that are decoded ahead, so that workers do not rest while a step is computed.
AHEAD = 2


def decode_media(
    source: Source,
    requests: Sequence[Clip],
    video: VideoInput,
    num_workers: int,
) -> Iterator[np.ndarray | ClipError]:
    """Decodes clips for evaluation: uniform sampling, centre crop.

    Args:
        requests: (index of a record, indices of its media that form X_V); requests for the same
            record are best side by side.
        num_workers: decoding processes of a host; 0 decodes in a thread of this one.

    Yields:
        In the order of ``requests``: uint8 [frames, size, size, 3], or the error of a clip that
        cannot be read.
    """
    yield from in_workers(functools.partial(_decode_requests, source, video), requests, num_workers)


def in_workers(
    function: Callable[[Sequence[T]], list[np.ndarray | ClipError]],
    requests: Sequence[T],
    num_workers: int,
) -> Iterator[np.ndarray | ClipError]:
    """Maps a function over chunks of requests.

    Args:
        function: gives an array, or an error, for each request of a chunk.
        num_workers: processes of a host; 0 calls it in a thread of this one.

    Yields:
        In the order of ``requests``.
    """
    chunks = grain.MapDataset.range(0, len(requests), CHUNK)
    chunks = chunks.map(lambda first: list(requests[first : first + CHUNK]))
    chunks = chunks.map(function)
    with read_ahead(chunks, num_workers, AHEAD * max(1, host.share(num_workers))) as iterator:
        for chunk in iterator:
            for result in chunk:
                # Workers hand over shared memory, an open file each until it is let go.
                yield result if isinstance(result, ClipError) else np.array(result)


def in_batches(
    function: Callable[[np.ndarray], np.ndarray],
    decoded: Iterable[np.ndarray | ClipError],
    size: int,
) -> Iterator[np.ndarray | ClipError]:
    """Applies a function of up to ``size`` stacked clips; errors pass through, in their places."""
    batch: list[np.ndarray | ClipError] = []

    def results() -> Iterator[np.ndarray | ClipError]:
        clips = [clip for clip in batch if not isinstance(clip, ClipError)]
        rows = iter(function(np.stack(clips)) if clips else ())
        for clip in batch:
            yield clip if isinstance(clip, ClipError) else next(rows)
        batch.clear()

    for clip in decoded:
        batch.append(clip)
        if len(batch) == size:
            yield from results()
    yield from results()


@contextlib.contextmanager
def read_ahead(chunks: grain.MapDataset, num_workers: int, ahead: int) -> Iterator[Iterator]:
    """Reads ``ahead`` chunks ahead, in order: in worker processes, or in a thread of this one.

    Args:
        num_workers: of a host; the processes of this job that run there have a share each. 0 for a
            thread.
    """
    if not flags.FLAGS.is_parsed():  # Grain's workers read flags; programs without absl have none
        flags.FLAGS.mark_as_parsed()
    num_workers = host.share(num_workers)
    each = -(-ahead // max(1, num_workers))
    dataset = chunks.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=each))
    workers = grain.MultiprocessingOptions(num_workers=num_workers)
    iterator = iter(dataset.mp_prefetch(workers, worker_init_fn=_ignore_interrupts))
    try:
        yield iterator
    finally:
        iterator.close()
        # Grain leaves the last element in a cycle of references: without this, its shared memory
        # is freed when Python ends, with a warning of a leak.
        gc.collect()


def _ignore_interrupts(worker_index: int, worker_count: int) -> None:
    """Ctrl-C reaches the workers too, but the training process still needs them to stop well."""
    del worker_index, worker_count
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _decode_requests(
    source: Source, video: VideoInput, requests: Sequence[Clip]
) -> list[np.ndarray | ClipError]:
    decoded, record, last = [], None, None
    for index, media in requests:
        if index != last:
            record, last = source[index], index
        try:
            decoded.append(load_clip([record.media[i] for i in media], video, None))
        except ClipError as error:
            decoded.append(ClipError(f"record '{record.id}': {error}"))
    return decoded
