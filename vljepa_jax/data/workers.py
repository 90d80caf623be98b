"""Decoding processes: chunks of work handed to Grain's workers, read ahead and in order."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import gc
import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import resource_tracker, shared_memory
from typing import TypeVar

import grain
import numpy as np
from absl import flags

from vljepa_jax import host
from vljepa_jax.config import VideoInput
from vljepa_jax.data.light_grain import announce
from vljepa_jax.data.process_pool import end_with_parent
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.shards import Media
from vljepa_jax.data.token_cache import ClipKey
from vljepa_jax.data.video import load_clip
from vljepa_jax.ownership import shared_memory_prefix

T = TypeVar("T")
S = TypeVar("S")

# Examples that a worker hands over at a time: few enough to be ready soon, enough to pay.
CHUNK = 8
# Batches that are decoded ahead, so that workers do not rest while a step is computed.
AHEAD = 2


def decode_media(
    media: Media,
    requests: Sequence[ClipKey],
    video: VideoInput,
    num_workers: int,
    ahead: int = 0,
) -> Iterator[np.ndarray | ClipError]:
    """Decodes clips for evaluation: uniform sampling, centre crop.

    Args:
        requests: (index of a record, indices of its media that form X_V); requests for the same
            record are best side by side.
        num_workers: decoding processes of a host; 0 decodes in a thread of this one.
        ahead: see ``in_workers``.

    Yields:
        In the order of ``requests``: uint8 [frames, size, size, 3], or the error of a clip that
        cannot be read.
    """
    decode = functools.partial(_decode_requests, media, video)
    yield from in_workers(decode, requests, num_workers, ahead)


def in_workers(
    function: Callable[[Sequence[T]], list[np.ndarray | ClipError]],
    requests: Sequence[T],
    num_workers: int,
    ahead: int = 0,
) -> Iterator[np.ndarray | ClipError]:
    """Maps a function over chunks of requests.

    Args:
        function: gives an array, or an error, for each request of a chunk.
        num_workers: processes of a host; 0 calls it in a thread of this one.
        ahead: results that may lie ready, where they are taken so many at a time; a few in any
            case.

    Yields:
        In the order of ``requests``.
    """
    chunks = grain.MapDataset.range(0, len(requests), CHUNK)
    chunks = chunks.map(lambda first: list(requests[first : first + CHUNK]))
    chunks = chunks.map(function)
    chunks_ahead = max(AHEAD * max(1, host.share(num_workers)), -(-ahead // CHUNK))
    with read_ahead(chunks, num_workers, chunks_ahead) as iterator:
        for chunk in iterator:
            for result in chunk:
                # Workers hand over shared memory, an open file each until it is let go.
                yield result if isinstance(result, ClipError) else np.array(result)


def in_batches(
    function: Callable[[Sequence[T], np.ndarray], Iterable[S]],
    decoded: Iterable[tuple[T, np.ndarray | ClipError]],
    size: int,
) -> Iterator[tuple[T, S | ClipError]]:
    """Applies a function to batches of clips; those that cannot be read pass by it.

    Args:
        function: (what the clips of a batch are known by, [n, T, H, W, 3]) -> a result each.
        decoded: clips, each with what it is known by.
        size: clips of a batch; the last has the rest.

    Yields:
        What each clip is known by with its result, or its error, in the order of ``decoded``.
    """
    waiting: list[tuple[T, np.ndarray | ClipError]] = []

    def results() -> Iterator[tuple[T, S | ClipError]]:
        batch = [(key, clip) for key, clip in waiting if not isinstance(clip, ClipError)]
        found: Iterator[S] = iter(())
        if batch:
            found = iter(function([key for key, _ in batch], np.stack([clip for _, clip in batch])))
        for key, clip in waiting:
            yield key, clip if isinstance(clip, ClipError) else next(found)

    readable = 0
    for key, clip in decoded:
        waiting.append((key, clip))
        readable += not isinstance(clip, ClipError)
        if readable == size:
            yield from results()
            waiting.clear()
            readable = 0
    yield from results()


def in_thread(items: Iterable[T], ahead: int) -> Iterator[T]:
    """Makes items in a thread, so many at a time, while those before are used; in order.

    An error is raised where the first of its ``ahead`` would be given.
    """
    made = iter(items)

    def some() -> list[T]:
        return list(itertools.islice(made, ahead))

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        following = thread.submit(some)
        while chunk := following.result():
            following = thread.submit(some)
            yield from chunk


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
    if num_workers:
        announce()
    start = functools.partial(_start_worker, shared_memory_prefix() if num_workers else "")
    iterator = iter(dataset.mp_prefetch(workers, worker_init_fn=start))
    try:
        yield iterator
    finally:
        iterator.close()
        # Grain leaves the last element in a cycle of references: without this, its shared memory
        # is freed when Python ends, with a warning of a leak.
        gc.collect()


def _start_worker(prefix: str, worker_index: int, worker_count: int) -> None:
    """``prefix``: of the names of the shared memory that it hands over."""
    del worker_index, worker_count
    end_with_parent()
    if prefix:
        # So that it can be told whose it is where all processes were killed, and with them the one
        # that Python has for freeing it. The standard library has no public way to name it.
        shared_memory._make_filename = functools.partial(_name_of_segment, prefix)


def _name_of_segment(prefix: str) -> str:
    """Also tells Python's process for freeing it, which otherwise learns of a segment only after it
    was made: one of a worker that ended in between would stay."""
    name = f"/{prefix}{secrets.token_hex(6)}"
    resource_tracker.register(name, "shared_memory")
    return name


def _decode_requests(
    media: Media, video: VideoInput, requests: Sequence[ClipKey]
) -> list[np.ndarray | ClipError]:
    decoded, record, last = [], None, None
    for index, inputs in requests:
        if index != last:
            record, last = media[index], index
        try:
            decoded.append(load_clip([record.media[i] for i in inputs], video, None))
        except ClipError as error:
            decoded.append(ClipError(f"record '{record.id}': {error}"))
    return decoded
