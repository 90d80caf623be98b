"""A video file or medium as a stream of embeddings Ŝ_Y, one a window, and those of its spans."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from vljepa_jax.data.records import ROUNDING, Medium
from vljepa_jax.data.video import fit_frame, play
from vljepa_jax.data.workers import in_batches, in_thread
from vljepa_jax.inference.embedder import Embedder
from vljepa_jax.inference.streams.windows import SlidingWindow, Window


def embed_stream(
    model: Embedder, medium: Medium, query: str, *, seconds: float, ticks_per_second: float
) -> tuple[np.ndarray, np.ndarray]:
    """Embeds the sliding windows of a whole video, in batches; it is decoded in a thread meanwhile.

    Args:
        seconds: length of a window.
        ticks_per_second: windows.

    Returns:
        [n] seconds at which the windows end, and [n, E] their embeddings.

    Raises:
        ClipError: the video cannot be read.
    """
    sliding = SlidingWindow(model.video, seconds=seconds, ticks_per_second=ticks_per_second)
    windows = in_thread(play_windows(medium, sliding), model.batch_size)
    embedded = list(
        in_batches(
            lambda _, clips: model.predict(clips, [query] * len(clips)),
            ((window.end, window.clip) for window in windows),
            model.batch_size,
        )
    )
    ends = np.array([end for end, _ in embedded])
    vectors = np.array([vector for _, vector in embedded], np.float32)
    return ends, vectors.reshape(len(ends), model.embedding_size)


def embed_spans(
    model: Embedder, medium: Medium, query: str, spans: Float[np.ndarray, "k 2"]
) -> Float[np.ndarray, "k e"]:
    """Embeds spans of a whole video, of any lengths, a clip each.

    The video is decoded once. Its frames, at the model's size, are in memory meanwhile.

    Args:
        spans: seconds, [begin, end); what reaches beyond the video shows its first or last frame.

    Raises:
        ClipError: the video cannot be read.
    """
    begins, frames = [], []
    for frame in play(medium):
        begins.append(frame.begin - ROUNDING)
        frames.append(fit_frame(frame.image(), model.video))
    count = model.video.frames
    moments = spans[:, :1] + (np.arange(count) + 0.5) / count * (spans[:, 1:] - spans[:, :1])
    shown = np.maximum(np.searchsorted(begins, moments, side="right") - 1, 0)
    embedded = in_batches(
        lambda _, clips: model.predict(clips, [query] * len(clips)),
        ((index, np.stack([frames[i] for i in row])) for index, row in enumerate(shown)),
        model.batch_size,
    )
    vectors = np.array([vector for _, vector in embedded], np.float32)
    return vectors.reshape(len(spans), model.embedding_size)


def play_windows(medium: Medium, sliding: SlidingWindow) -> Iterator[Window]:
    """Decodes a whole video into windows, in order; raises ClipError where it cannot be read."""
    end = 0.0
    for frame in play(medium):
        yield from sliding.push(frame.begin, frame.image)
        end = frame.end
    yield from sliding.finish(end)
