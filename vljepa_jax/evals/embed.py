"""Embeds what benchmarks need: a clip is decoded once, a text and a (clip, query) embedded once.

What a cache has is not embedded again; what is embedded, it keeps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int
from rich.progress import Progress

from vljepa_jax.config import VideoInput
from vljepa_jax.data.records import ClipError
from vljepa_jax.data.workers import in_batches
from vljepa_jax.evals.datasets import Datasets
from vljepa_jax.evals.embedding_cache import EmbeddingCache, as_keys, vector_key
from vljepa_jax.evals.examples import ClipRef
from vljepa_jax.evals.packed import Pair, Pairs, Rows
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
    pairs = needs.videos if isinstance(needs.videos, Pairs) else Pairs(needs.videos)
    texts = _embed_texts(model, sorted(needs.texts), cache)
    videos, unreadable = _embed_videos(model, pairs, datasets, cache, video)
    if cache is not None:
        cache.flush()
    written = None
    if model.text_decoder is not None:
        asked = [pair for pair in videos if pair in needs.written] if needs.written else []
        vectors = {pair: vector for pair in asked if (vector := videos[pair]) is not None}
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
    if cache is not None:
        keys = as_keys(vector_key("text", text) for text in texts)
        missing = ~np.all(gather(cache.has(keys)), axis=0)  # all embed the same ones together
        _read(cache, keys, matrix, np.flatnonzero(~missing))
    rows = np.flatnonzero(missing)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        matrix[some] = np.stack(divided(model.embed_text, [texts[i] for i in some]))
        if cache is not None and first_process():
            cache.add(keys[some], matrix[some])
    return Vectors({text: row for row, text in enumerate(texts)}, matrix)


def _embed_videos(
    model: Embedder,
    pairs: Pairs,
    datasets: Datasets,
    cache: EmbeddingCache | None,
    video: VideoInput,
) -> tuple[Vectors[Pair], dict[ClipRef, str]]:
    own = share(range(len(pairs.starts) - 1))  # clips
    first = pairs.starts[own.start]
    starts = pairs.starts[own.start : own.stop + 1] - first  # of each, among the rows of all these
    matrix = np.zeros((starts[-1], model.embedding_size), np.float32)
    missing, lost = np.ones(len(matrix), bool), np.zeros(len(matrix), bool)
    if cache is not None:
        keys, known = _keys(pairs, own, datasets, video)
        found = np.flatnonzero(known & cache.has(keys))
        _read(cache, keys, matrix, found)
        missing[found] = False
    asked = np.flatnonzero(np.add.reduceat(missing, starts[:-1])) if len(own) else starts[:-1]
    unreadable: dict[ClipRef, str] = {}

    def predict(clips: Sequence[int], frames: np.ndarray) -> Sequence[int]:
        """Fills the rows of each clip."""
        of_each = [np.flatnonzero(missing[starts[i] : starts[i + 1]]) + starts[i] for i in clips]
        rows = np.concatenate(of_each)
        of_clip = np.repeat(np.arange(len(clips)), [len(each) for each in of_each])
        visual = model.encode_clips(frames)
        matrix[rows] = model.predict_tokens(visual, of_clip, pairs.queries(first + rows))
        if cache is not None:
            kept = rows[known[rows]]
            cache.add(keys[kept], matrix[kept])
        return clips

    with Progress(transient=True, disable=not first_process()) as progress:
        # While a batch is embedded, the next is decoded.
        decoded = datasets.decode_keys(
            pairs.clips(own.start + asked), video, ahead=model.batch_size
        )
        done = in_batches(predict, zip(asked.tolist(), decoded, strict=True), model.batch_size)
        for clip, why in progress.track(done, len(asked), description="Embedding clips"):
            if isinstance(why, ClipError):
                unreadable[pairs.clip(own.start + clip)] = str(why)
                lost[starts[clip] : starts[clip + 1]] = True
    parts = gather((matrix, lost, unreadable))  # in the order of the clips
    if len(parts) > 1:
        matrix, lost = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        unreadable = {clip: why for *_, part in parts for clip, why in part.items()}
    return Vectors(Rows(pairs, lost), matrix), unreadable


def _keys(
    pairs: Pairs, own: range, datasets: Datasets, video: VideoInput
) -> tuple[np.ndarray, Bool[np.ndarray, " n"]]:
    """Names of the vectors of the pairs of some clips, and which of them have one.

    A clip whose file is missing has none.
    """
    settings = dataclasses.asdict(video)
    stamps = datasets.stamps(pairs.clips(np.arange(own.start, own.stop)))
    known = np.zeros(pairs.starts[own.stop] - pairs.starts[own.start], bool)

    def names() -> Iterator[bytes]:
        place = 0
        for clip, stamp in zip(own, stamps, strict=True):
            queries = pairs.queries(np.arange(*pairs.starts[[clip, clip + 1]]))
            known[place : place + len(queries)] = stamp is not None
            place += len(queries)
            yield from (vector_key("video", stamp, settings, query) for query in queries)

    return as_keys(names()), known


def _read(
    cache: EmbeddingCache, keys: np.ndarray, matrix: np.ndarray, rows: Int[np.ndarray, " n"]
) -> None:
    """Fills rows of a matrix, a few at a time: it may be all that there is room for."""
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        matrix[some] = cache.read(keys[some])
