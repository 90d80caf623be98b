"""Clips of sliding windows equal those that the file's spans give."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.helpers.tiny import tiny_train_config
from vljepa_jax.data.records import Medium
from vljepa_jax.data.video import load_clip, write_mp4
from vljepa_jax.inference.streams.windows import SlidingWindow, window_count


def video(frames=4):
    return dataclasses.replace(tiny_train_config().video_input, frames=frames, image_size=32)


def pictures(count, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 6, 8, 3), np.uint8)
    return [np.asarray(Image.fromarray(s).resize((64, 48))) for s in small]


class Frames:
    """Frames of a file as ``SlidingWindow.push`` takes them; counts those that were asked for."""

    def __init__(self, medium):
        import io

        import av

        with av.open(io.BytesIO(medium.data)) as container:
            self.frames = [(f.time, f.to_image()) for f in container.decode(video=0)]
        self.asked = []

    def windows(self, sliding, end):
        for time, image in self.frames:
            yield from sliding.push(time, lambda t=time, i=image: self.asked.append(t) or i)
        yield from sliding.finish(end)


@pytest.mark.parametrize(
    ("fps", "seconds", "rate", "frames"), [(8, 2.0, 2.0, 4), (30, 1.0, 4.0, 8), (10, 1.5, 3.0, 4)]
)
def test_windows_show_what_spans_of_the_file_show(fps, seconds, rate, frames):
    count = 5 * fps
    medium = Medium(data=write_mp4(pictures(count), fps))
    sliding = SlidingWindow(video(frames), seconds=seconds, ticks_per_second=rate)
    source = Frames(medium)
    windows = list(source.windows(sliding, count / fps))
    ends = seconds + np.arange(window_count(count / fps, seconds, rate)) / rate
    np.testing.assert_allclose([w.end for w in windows], ends, atol=1e-6)
    for window in windows:
        span = dataclasses.replace(medium, start=window.end - seconds, end=window.end)
        expected = load_clip([span], video(frames), None)
        # The files' frames reach RGB through two paths of FFmpeg's scaler.
        assert np.abs(window.clip.astype(int) - expected).mean() < 1.0
        assert np.abs(window.clip.astype(int) - expected).max() <= 8


def test_a_shared_frame_is_prepared_once_and_an_unseen_one_never():
    medium = Medium(data=write_mp4(pictures(120), 30))
    sliding = SlidingWindow(video(4), seconds=2.0, ticks_per_second=2.0)
    source = Frames(medium)
    windows = list(source.windows(sliding, 4.0))
    assert len(windows) == 5
    # Moments of all windows lie on a grid of half seconds, 0.25 s off: eight in four seconds.
    assert len(source.asked) == len(set(source.asked)) == 8


def test_memory_is_bounded_and_a_gap_shows_the_last_frame():
    sliding = SlidingWindow(video(4), seconds=1.0, ticks_per_second=4.0)
    held = []
    for index in range(2_000):
        image = Image.new("RGB", (40, 40), (index % 256, 0, 0))
        for _ in sliding.push(index / 25, lambda image=image: image):
            held.append(len(sliding._shown))
    assert max(held) <= 8
    # Nothing comes for two seconds; the windows in between end with the last frame.
    windows = list(sliding.push(2_000 / 25 + 2.0, lambda: Image.new("RGB", (40, 40))))
    assert len(windows) >= 8
    assert (windows[-1].clip[:, 0, 0, 0] == 1999 % 256).all()


def test_times_do_not_descend_and_sizes_are_positive():
    sliding = SlidingWindow(video(), seconds=1.0, ticks_per_second=1.0)
    list(sliding.push(1.0, lambda: None))
    with pytest.raises(ValueError, match="a frame at 0.900 s follows one at 1.000 s"):
        list(sliding.push(0.9, lambda: None))
    with pytest.raises(ValueError, match="positive"):
        SlidingWindow(video(), seconds=0.0, ticks_per_second=1.0)


def test_the_second_of_two_frames_at_one_time_is_shown():
    sliding = SlidingWindow(video(), seconds=1.0, ticks_per_second=1.0)
    shown = [Image.fromarray(np.full((8, 8, 3), grey, np.uint8)) for grey in (10, 90, 200)]
    for time, image in zip((0.0, 0.0, 1.0), shown, strict=True):
        windows = list(sliding.push(time, lambda image=image: image))
    (window,) = windows
    assert (window.clip == 90).all()
