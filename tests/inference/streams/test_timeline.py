"""The picture of a stream: no label over another, however dense it is."""

import itertools
import threading
import time

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from vljepa_jax.inference.streams import timeline as drawing
from vljepa_jax.inference.streams.timeline import Spoken, Timeline, draw_timeline


def timeline(seconds, count):
    rng = np.random.default_rng(count)
    words = "a video of an owl going down while the camera dissolves".split()  # noqa: SIM905
    starts = np.sort(rng.uniform(0, seconds, count))
    spoken = [
        Spoken(start, start + rng.exponential(2), start, " ".join(rng.permutation(words)))
        for start in starts
    ]
    times = np.arange(0, seconds, 0.5)
    frames = [(time, np.zeros((96, 96, 3), np.uint8)) for time in times[::8]]
    return Timeline(frames, times, np.ones(len(times)), spoken, spoken[::2])


def boxes(figure):
    """Of the labels of each panel, as they are drawn, and of the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    panels = [[t.get_window_extent(renderer) for t in a.texts if t.get_text()] for a in figure.axes]
    return [panel for panel in panels if panel], figure.bbox


@pytest.mark.parametrize(("seconds", "count", "parts"), [(60, 20, 1), (60, 60, 4), (600, 64, 1)])
def test_no_label_lies_over_another_or_outside(seconds, count, parts):
    for part in timeline(seconds, count).parts(parts):
        panels, whole = boxes(draw_timeline(part, 12.0 / parts + 1.0))
        assert sum(map(len, panels)) > 5
        for panel in panels:
            assert all(box.x1 <= whole.x1 + 1 for box in panel)
            for one, other in itertools.combinations(panel, 2):
                apart = (
                    one.x1 <= other.x0
                    or other.x1 <= one.x0
                    or one.y1 <= other.y0 + 2
                    or other.y1 <= one.y0 + 2
                )
                assert apart, (one, other)


def test_the_parts_are_the_whole():
    whole = timeline(60, 30)
    parts = whole.parts(4)
    assert [part.times[0] for part in parts[1:]] == [part.times[-1] for part in parts[:-1]]
    assert {span for part in parts for span in part.spoken} == set(whole.spoken)
    assert Timeline([], np.arange(1.0), np.ones(1), []).parts(4)[0].times.size == 1


def test_threads_draw_one_after_another_and_leave_the_style_as_it_was(monkeypatch):
    before = dict(matplotlib.rcParams)
    draw_texts, drawing_now, most = drawing._draw_texts, [], []
    begin = threading.Barrier(4)

    def slow(*arguments):
        drawing_now.append(None)
        most.append(len(drawing_now))
        time.sleep(0.05)
        draw_texts(*arguments)
        drawing_now.pop()

    def draw():
        begin.wait()
        draw_timeline(Timeline([], np.arange(3.0), np.ones(3), []))

    monkeypatch.setattr(drawing, "_draw_texts", slow)
    threads = [threading.Thread(target=draw) for _ in range(begin.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * begin.parties
    assert dict(matplotlib.rcParams) == before
