"""Embeds what benchmarks need: a clip is decoded once, a text and a (clip, query) embedded once.

What a cache has is not embedded again; what is embedded, it keeps.
"""

from __future__ import annotations

import dataclasses
import operator
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from rich.progress import Progress

from vljepa_jax.config import VideoInput
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.workers import in_batches
from vljepa_jax.evals.datasets import Datasets, file_order
from vljepa_jax.evals.embedding_cache import EmbeddingCache, vector_key
from vljepa_jax.evals.examples import ClipRef
from vljepa_jax.evals.protocols.base import Embeddings, Needs, Vectors
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.parallel.processes import divided, first_process, gather, share, wait_for_all

_AT_ONCE = 1 << 14  # texts embedded before they are kept; vectors read from the cache


def embed(
    model: Embedder,
    needs: Needs,
    datasets: Datasets,
    cache: EmbeddingCache | None,
    video: VideoInput,
) -> tuple[Embeddings, dict[ClipRef, str]]:
    """Embeds what benchmarks need.

    Args:
        video: how their clips are read.

    Returns:
        All of it, in every process, and why clips cannot be read.
    """
    if cache is not None:
        wait_for_all()  # until the others have written
        cache.refresh()
    texts = _embed_texts(model, sorted(needs.texts), cache)
    videos, unreadable = _embed_videos(model, needs.videos, datasets, cache, video)
    if cache is not None:
        cache.flush()
    written = None
    if model.text_decoder is not None:
        vectors = {v: e for v, e in videos.items() if v in needs.written and e is not None}
        said = divided(
            lambda rows: model.decode(np.stack(rows)) if rows else [], list(vectors.values())
        )
        written = dict(zip(vectors, said, strict=True))
    return Embeddings(videos, texts, written), unreadable


def _embed_texts(
    model: Embedder, texts: Sequence[str], cache: EmbeddingCache | None
) -> Vectors[str]:
    matrix = np.zeros((len(texts), model.embedding_size), np.float32)
    missing = np.ones(len(texts), bool)
    keys = [vector_key("text", text) for text in texts] if cache is not None else []
    if cache is not None:
        here = np.array([key in cache for key in keys], bool)
        missing = ~np.all(gather(here), axis=0)  # all processes embed the same ones together
        found = np.flatnonzero(~missing)
        _read(cache, keys, matrix, found)
    rows = np.flatnonzero(missing)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        matrix[some] = np.stack(divided(model.embed_text, [texts[i] for i in some]))
        if cache is not None and first_process():
            cache.add([keys[i] for i in some], matrix[some])
    return Vectors({text: row for row, text in enumerate(texts)}, matrix)


def _embed_videos(
    model: Embedder,
    needed: Collection[tuple[ClipRef, str]],
    datasets: Datasets,
    cache: EmbeddingCache | None,
    video: VideoInput,
) -> tuple[Vectors[tuple[ClipRef, str]], dict[ClipRef, str]]:
    queries: dict[ClipRef, list[str]] = defaultdict(list)
    for clip, query in sorted(needed, key=operator.itemgetter(1)):  # the same every time
        queries[clip].append(query)
    own = share(sorted(queries, key=file_order))
    pairs = [(clip, query) for clip in own for query in queries[clip]]
    matrix = np.zeros((len(pairs), model.embedding_size), np.float32)
    # Of each clip, the rows to be embedded.
    missing: dict[ClipRef, list[int]] = defaultdict(list)
    keys: dict[int, bytes] = {}
    if cache is None:
        for row, (clip, _) in enumerate(pairs):
            missing[clip].append(row)
    else:
        stamps = datasets.stamps(own)
        settings = dataclasses.asdict(video)
        keys = {
            row: vector_key("video", stamps[clip], settings, query)
            for row, (clip, query) in enumerate(pairs)
            if clip in stamps
        }
        found = [row for row, key in keys.items() if key in cache]
        _read(cache, keys, matrix, found)
        for row in sorted(set(range(len(pairs))).difference(found)):
            missing[pairs[row][0]].append(row)
    unreadable: dict[ClipRef, str] = {}

    def predict(clips: Sequence[ClipRef], frames: np.ndarray) -> list[list[int]]:
        """Fills the rows of each clip."""
        rows = [row for clip in clips for row in missing[clip]]
        of_clip = np.array([i for i, clip in enumerate(clips) for _ in missing[clip]])
        asked = [pairs[row][1] for row in rows]
        matrix[rows] = model.predict_tokens(model.encode_clips(frames), of_clip, asked)
        if cache is not None:
            kept = [row for row in rows if row in keys]
            cache.add([keys[row] for row in kept], matrix[kept])
        return [missing[clip] for clip in clips]

    with Progress(transient=True, disable=not first_process()) as progress:
        # While a batch is embedded, the next is decoded.
        decoded = datasets.decode(missing, video, ahead=model.batch_size)
        done = in_batches(predict, decoded, model.batch_size)
        for clip, rows in progress.track(done, len(missing), description="Embedding clips"):
            if isinstance(rows, ClipError):
                unreadable[clip] = str(rows)
    parts = gather((pairs, matrix, unreadable))
    if len(parts) > 1:
        pairs = [pair for part, _, _ in parts for pair in part]
        matrix = np.concatenate([part for _, part, _ in parts])
        unreadable = {clip: why for _, _, part in parts for clip, why in part.items()}
    rows = {pair: None if pair[0] in unreadable else row for row, pair in enumerate(pairs)}
    return Vectors(rows, matrix), unreadable


def _read(
    cache: EmbeddingCache,
    keys: Sequence[bytes] | Mapping[int, bytes],
    matrix: np.ndarray,
    rows: Sequence[int] | np.ndarray,
) -> None:
    """Fills rows of a matrix, a few at a time: it may be all that there is room for."""
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        matrix[some] = cache.read([keys[row] for row in some])
