import collections
import hashlib
import itertools
import types

import numpy as np
import pytest

from vljepa_jax.data.world import pairs, streams
from vljepa_jax.data.world.motions import MOTIONS

FPS, DENSITY = 8, 0.4


def draw(kind, seeds):
    return [streams.draw_stream(np.random.default_rng(seed), FPS, kind, DENSITY) for seed in seeds]


@pytest.fixture(scope="module", params=["poisson", "procedural"])
def scripts(request):
    return draw(request.param, range(12))


@pytest.fixture(scope="module")
def procedural():
    return draw("procedural", range(12))


def test_streams_last_four_to_six_minutes(scripts):
    assert all(240 <= script.frames / FPS <= 360 for script in scripts)
    assert len({script.frames for script in scripts}) > 6


@pytest.mark.parametrize("kind", ["poisson", "procedural"])
def test_events_come_at_the_stated_density(kind):
    scripts = draw(kind, range(40))
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
    script = streams.draw_stream(np.random.default_rng(0), FPS, "poisson", DENSITY, seconds=20)
    frames = streams.render_stream(script, 32)
    assert isinstance(frames, types.GeneratorType)
    assert sum(frame.shape == (32, 32, 3) for frame in frames) == script.frames == 160


@pytest.mark.parametrize(
    ("seed", "seconds", "digest"),
    [(0, None, "ab2efef35e827296"), (1, 40, "6de9e64f79b9d9d8"), (7, 40, "19a72399167c4577")],
)
def test_poisson_streams_are_what_they_were_before_there_was_another_kind(seed, seconds, digest):
    """Digests of courses, events, and of what the generator draws next, made by the code then.

    Courses to six decimals: numpy's sines and powers differ in the last bits between processors
    with AVX-512 and without.
    """
    rng = np.random.default_rng(seed)
    script = streams.draw_stream(rng, FPS, "poisson", DENSITY, seconds)
    made = hashlib.sha256()
    for shot in script.shots:
        made.update(str((shot.first, shot.background_seed)).encode())
        for actor in shot.actors:
            for course in (actor.position, actor.size, actor.angle, actor.opacity):
                made.update((np.round(course, 6) + 0.0).tobytes())  # + 0: no -0
    made.update(repr(script.events).encode())
    made.update(str(rng.random()).encode())
    assert made.hexdigest()[:16] == digest


def test_in_a_procedural_stream_one_thing_follows_another(procedural):
    for script in procedural:
        ends = [event.start + event.seconds for event in script.events]
        pauses = np.array([e.start for e in script.events[1:]]) - ends[:-1]
        assert (pauses >= -1e-9).all()
        assert pauses.mean() < 0.05
        assert script.frames / FPS - ends[-1] < 2
        for one, next_one in itertools.pairwise(script.events):
            assert (one.thing, one.motion) != (next_one.thing, next_one.motion)


def test_procedures_repeat_and_vary(procedural):
    for script in procedural:
        times = collections.defaultdict(list)  # of a thing: the motions of each time
        starts = [shot.first / FPS for shot in script.shots[1:]]
        shots = np.searchsorted(starts, [event.start for event in script.events], side="right")
        for _, group in itertools.groupby(
            zip(shots, script.events, strict=True), key=lambda pair: pair[0]
        ):
            events = [event for _, event in group]
            assert len({event.thing for event in events}) == 1
            times[events[0].thing].append(tuple(event.motion for event in events))
        assert 3 <= len(times) <= 5
        for motions in times.values():
            assert len(set().union(*motions)) <= 8  # its steps, again and again
        assert sum(map(len, times.values())) > 8
        assert any(len(set(motions)) > 1 for motions in times.values())


def test_one_after_another_cannot_be_denser_than_events_last():
    with pytest.raises(ValueError, match=r"0\.5 events per second.*up to 0\.4 fit"):
        streams.draw_stream(np.random.default_rng(0), FPS, "procedural", 0.5)
    with pytest.raises(ValueError, match="no streams of the kind 'cooking'"):
        streams.draw_stream(np.random.default_rng(0), FPS, "cooking", 0.4)


def test_the_mean_duration_is_the_one_that_pauses_are_made_for():
    durations = streams._draw_durations(np.random.default_rng(0), 200_000, 300.0)
    assert durations.mean() == pytest.approx(streams._MEAN, rel=0.01)
