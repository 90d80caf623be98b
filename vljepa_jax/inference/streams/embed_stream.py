"""A video file or medium as a stream of embeddings Ŝ_Y, one a window."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vljepa_jax.data.records import Medium
from vljepa_jax.data.video import play
from vljepa_jax.data.workers import in_batches
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.streams.windows import SlidingWindow, Window


def embed_stream(
    model: Embedder, medium: Medium, query: str, *, seconds: float, ticks_per_second: float
) -> tuple[np.ndarray, np.ndarray]:
    """Embeds the sliding windows of a whole video, in batches.

    Args:
        seconds: length of a window.
        ticks_per_second: windows.

    Returns:
        [n] seconds at which the windows end, and [n, E] their embeddings.

    Raises:
        ClipError: the video cannot be read.
    """
    sliding = SlidingWindow(model.video, seconds=seconds, ticks_per_second=ticks_per_second)
    embedded = list(
        in_batches(
            lambda _, clips: model.predict(clips, [query] * len(clips)),
            ((window.end, window.clip) for window in _windows(medium, sliding)),
            model.batch_size,
        )
    )
    ends = np.array([end for end, _ in embedded])
    vectors = np.array([vector for _, vector in embedded], np.float32)
    return ends, vectors.reshape(len(ends), model.embedding_size)


def _windows(medium: Medium, sliding: SlidingWindow) -> Iterator[Window]:
    end = 0.0
    for frame in play(medium):
        yield from sliding.push(frame.begin, frame.image)
        end = frame.end
    yield from sliding.finish(end)
