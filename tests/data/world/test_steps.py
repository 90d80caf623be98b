"""What comes next in scripted streams, against the script itself."""

import numpy as np
import pytest

from vljepa_jax.data.video import read_frames
from vljepa_jax.data.world.motions import MOTIONS
from vljepa_jax.data.world.steps import make_steps
from vljepa_jax.data.world.streams import draw_stream, render_stream

FPS, SIZE = 8, 32


@pytest.fixture(scope="module")
def stream():
    return draw_stream(np.random.default_rng(3), FPS, "procedural", 0.4, 60.0)


@pytest.fixture(scope="module")
def halves(stream):
    return {train: make_steps(stream, "s", SIZE, train=train) for train in (True, False)}


def pairs(stream, train):
    """(a step, the next) of one scene, from the script."""
    for before, after in zip(stream.events, stream.events[1:], strict=False):
        scenes = [
            max(i for i, shot in enumerate(stream.shots) if shot.first / FPS <= event.start)
            for event in (before, after)
        ]
        if scenes[0] == scenes[1] and (after.start < 30) == train:
            yield before, after


@pytest.mark.parametrize("train", [True, False])
def test_each_pair_of_a_half_is_asked_for_twice(stream, halves, train):
    expected = [
        (kind, list(MOTIONS).index(after.motion), before.motion, after.thing.name)
        for before, after in pairs(stream, train)
        for kind in ("next_step", "anticipation")
    ]
    found = [
        (a.tags["kind"], a.gold, a.tags["before"], a.tags["object"])
        for a in halves[train].annotations
    ]
    assert found == expected
    assert len(found) > 6
    assert [a.inputs for a in halves[train].annotations] == [(i,) for i in range(len(found))]
    assert {a.candidates for a in halves[train].annotations} == {"@labels/motions"}


def test_clips_show_what_was_before(stream, halves):
    """A step from its start to its end; 4 s that end 1 s before the next begins."""
    frames = np.stack(list(render_stream(stream, SIZE))).astype(float)
    asked = zip(halves[False].annotations, halves[False].media, strict=True)
    both = [pair for pair in pairs(stream, False) for _ in range(2)]
    for (annotation, medium), (before, after) in zip(asked, both, strict=True):
        if annotation.tags["kind"] == "next_step":
            first, last = round(before.start * FPS), round((before.start + before.seconds) * FPS)
        else:
            first, last = round((after.start - 5) * FPS), round((after.start - 1) * FPS)
        shown = read_frames(medium, [0.01, 0.999], np.asarray)
        for frame, index in zip(shown, (first, max(first, last - 1)), strict=True):
            # Encoded with losses: the frame is nearest to its own.
            distance = np.abs(frames - np.asarray(frame, float)).mean((1, 2, 3))
            assert distance[index] <= distance.min() + 0.5
