"""Spans of a video, embedded as clips, against clips that are read one by one from the file."""

import numpy as np

from tests.inference.streams.test_windows import pictures, video
from vljepa_jax.data.records import Medium
from vljepa_jax.data.video import load_clip, write_mp4
from vljepa_jax.inference.streams.embed_stream import embed_spans, embed_stream


class Pixels:
    """A model whose embedding of a clip is the clip's pixels."""

    video = video(4)
    batch_size = 3
    embedding_size = 4 * video.image_size**2 * 3

    def predict(self, clips, queries):
        assert set(queries) == {"what?"}
        return clips.reshape(len(clips), -1).astype(np.float32)


def test_a_span_is_the_clip_that_the_file_has_there():
    medium = Medium(data=write_mp4(pictures(90), 30))
    spans = np.array([[0.0, 1.0], [0.5, 2.75], [1.9, 2.3], [0.0, 3.0]])
    embedded = embed_spans(Pixels(), medium, "what?", spans)
    for (begin, end), row in zip(spans, embedded, strict=True):
        part = Medium(data=medium.data, start=begin, end=end)
        np.testing.assert_array_equal(row, load_clip([part], Pixels.video, None).ravel())


def test_spans_of_windows_are_the_stream_and_those_beyond_it_show_its_ends():
    medium = Medium(data=write_mp4(pictures(90), 30))
    ends, windows = embed_stream(Pixels(), medium, "what?", seconds=1.0, ticks_per_second=2.0)
    spans = np.stack([ends - 1.0, ends], axis=1)
    np.testing.assert_array_equal(embed_spans(Pixels(), medium, "what?", spans), windows)
    edges = np.array([[-2.0, -1.0], [0.0, 0.01], [7.0, 8.0], [2.99, 3.0]])
    before, first, after, last = embed_spans(Pixels(), medium, "what?", edges)
    np.testing.assert_array_equal(before, first)
    np.testing.assert_array_equal(after, last)
    assert (first != last).any()
