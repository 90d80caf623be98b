"""A video file or medium as a stream of embeddings Ŝ_Y, one a window."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vljepa_jax.data.records import Medium
from vljepa_jax.data.video import play
from vljepa_jax.inference.model import Model
from vljepa_jax.inference.streams.windows import SlidingWindow, Window


def embed_stream(
    model: Model, medium: Medium, query: str, *, seconds: float, ticks_per_second: float
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
    ends, embeddings, batch = [], [np.zeros((0, model.config.model.embedding_size), np.float32)], []

    def flush() -> None:
        clips = np.stack([window.clip for window in batch])
        embeddings.append(model.predict(clips, [query] * len(clips)))
        batch.clear()

    for window in _windows(medium, sliding):
        ends.append(window.end)
        batch.append(window)
        if len(batch) == model.batch_size:
            flush()
    if batch:
        flush()
    return np.array(ends), np.concatenate(embeddings)


def _windows(medium: Medium, sliding: SlidingWindow) -> Iterator[Window]:
    end = 0.0
    for frame in play(medium):
        yield from sliding.push(frame.begin, frame.image)
        end = frame.end
    yield from sliding.finish(end)
