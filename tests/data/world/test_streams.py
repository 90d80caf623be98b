import types

import numpy as np
import pytest

from vljepa_jax.data.world import pairs, streams
from vljepa_jax.data.world.motions import MOTIONS

FPS, DENSITY = 8, 0.4


@pytest.fixture(scope="module")
def scripts():
    return [streams.draw_stream(np.random.default_rng(seed), FPS, DENSITY) for seed in range(12)]


def test_streams_last_four_to_six_minutes(scripts):
    assert all(240 <= script.frames / FPS <= 360 for script in scripts)
    assert len({script.frames for script in scripts}) > 6


def test_events_come_at_the_stated_density(scripts):
    events = sum(len(script.events) for script in scripts)
    seconds = sum(script.frames for script in scripts) / FPS
    assert events / seconds == pytest.approx(DENSITY, rel=0.1)


def test_durations_have_a_heavy_tail(scripts):
    durations = np.array([event.seconds for script in scripts for event in script.events])
    assert durations.min() >= 0.5
    assert 8 < durations.max() <= 15
    assert np.median(durations) < 0.8 * durations.mean()


def test_events_lie_within_the_stream_and_an_object_does_one_thing_at_a_time(scripts):
    for script in scripts:
        ends = {}
        cuts = [shot.first / FPS for shot in script.shots[1:]]
        for event in script.events:
            end = event.start + event.seconds
            assert event.start >= 0
            assert end <= script.frames / FPS
            assert not [cut for cut in cuts if event.start < cut < end], "no cut during an event"
            shot = sum(cut <= event.start for cut in cuts)
            assert ends.get((shot, event.thing), 0) <= event.start
            ends[shot, event.thing] = end


def test_streams_show_seen_pairs_and_every_moving_motion(scripts):
    events = [event for script in scripts for event in script.events]
    assert not [e for e in events if (e.thing.name, e.motion) in pairs.held_out()]
    assert {event.motion for event in events} == set(MOTIONS) - {"still"}


def test_objects_stay_in_the_picture(scripts):
    for script in scripts[:4]:
        for shot in script.shots:
            for actor in shot.actors:
                margin = actor.size[:, None] / 2
                assert (actor.position >= margin - 1e-9).all()
                assert (actor.position <= 1 - margin + 1e-9).all()


def test_an_object_is_seen_only_while_its_event_lasts(scripts):
    script = scripts[0]
    ends = [shot.first for shot in script.shots[1:]] + [script.frames]
    seen = 0
    for shot, end in zip(script.shots, ends, strict=True):
        for actor in shot.actors:
            for moment in (np.flatnonzero(actor.opacity[: end - shot.first]) + shot.first) / FPS:
                seen += 1
                assert any(
                    event.thing == actor.thing
                    and event.start <= moment <= event.start + event.seconds
                    for event in script.events
                )
    assert seen > 0.9 * FPS * sum(event.seconds for event in script.events)


def test_an_object_moves_only_while_its_event_lasts(scripts):
    script = scripts[0]
    ends = [shot.first for shot in script.shots[1:]] + [script.frames]
    for shot, end in zip(script.shots, ends, strict=True):
        for actor in shot.actors:
            course = np.column_stack([actor.position, actor.size, actor.angle, actor.opacity])
            moving = np.abs(np.diff(course[: end - shot.first], axis=0)).max(1) > 1e-9
            for moment in (np.flatnonzero(moving) + shot.first) / FPS:
                assert any(
                    event.thing == actor.thing
                    and event.start - 1 / FPS <= moment <= event.start + event.seconds
                    for event in script.events
                )


def test_annotations_tell_the_middle_of_every_event(scripts):
    annotation = streams.annotate_stream(scripts[0], "x", np.random.default_rng(0))
    event = scripts[0].events[0]
    assert annotation.times[0] == pytest.approx(event.start + event.seconds / 2)
    assert annotation.durations[0] == event.seconds
    assert event.thing.name in annotation.texts[0].lower()
    assert len(annotation.texts) == len(annotation.times) == len(scripts[0].events)
    assert not annotation.trainable


def test_frames_come_one_at_a_time():
    script = streams.draw_stream(np.random.default_rng(0), FPS, DENSITY, seconds=20)
    frames = streams.render_stream(script, 32)
    assert isinstance(frames, types.GeneratorType)
    assert sum(frame.shape == (32, 32, 3) for frame in frames) == script.frames == 160
