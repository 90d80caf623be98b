"""Long scripted streams: scenes follow one another; in each, objects come, act, and are gone.

There are two kinds, of 4 to 6 minutes and with the same heavy-tailed durations of events:

- "procedural", like the paper's streams, takes of EgoExo4D in which one person follows a procedure:
  one actor at a time does one thing after another, without a pause. A stream has a few procedures,
  each of an actor and steps. They are carried out again and again in changing order, and never
  quite alike: steps are left out or exchanged, and each takes longer or shorter.
- "poisson": events of four or five objects begin at random, as in a Poisson process, and overlap.

The procedural kind was fixed from what the paper and EgoExo4D tell before anything was measured
on it. The paper has 143 annotations in 6 minutes: 0.40 a second, one every 2.5 s. Events of the
durations that the Poisson streams have always had last 2.49 s in the mean, so that at this density
they follow one another without gaps, and nothing had to be fitted; at a lower one, pauses in which
nobody is seen make up the rest. EgoExo4D gives an annotation one time, not a span; here it is the
middle of the event, in both kinds. A person in a kitchen handles one thing for some steps, then
another: an actor here stays for the steps of its procedure, some ten seconds, and a scene is cut
when the next procedure begins.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from vljepa_jax.data.records import Annotation
from vljepa_jax.data.world import language, motions, pairs
from vljepa_jax.data.world.backgrounds import draw_background
from vljepa_jax.data.world.objects import Object
from vljepa_jax.data.world.render import paste_sprite
from vljepa_jax.data.world.scene import LEAN, Actor, draw_objects, keeps_clear

Kind = Literal["procedural", "poisson"]

SECONDS = (240.0, 360.0)  # length of a stream
# Durations of events: log-normal, a heavy tail, cut to these limits.
_SHORTEST, _LONGEST, _MEDIAN, _SPREAD = 0.5, 15.0, 1.6, 0.9
_CAST = (4, 5)  # objects of a scene, which come and go
_SIZES, _REACHES, _RATIOS = (0.16, 0.26), (0.15, 0.32), (1.5, 1.9)
_SMALLEST, _LARGEST = 0.13, 0.36  # sizes that growing and shrinking may reach
_SCENE_SECONDS = 15.0  # a scene lasts at least this long, then until nothing moves
_PAUSE = 0.4  # quiet seconds around a cut
_DELAY = 0.25  # an event that nobody can make is put off by so much
_CHOICES, _COURSES = 8, 8  # (object, motion) pairs tried, and courses tried for each
_PROCEDURES, _STEPS = (3, 5), (4, 8)  # of a stream; of a procedure
_MEAN = 2.49  # seconds, of all durations (_draw_durations)
_VARIATION = 0.3  # of a step's duration from one time to the next, in its logarithm
_LEFT_OUT, _EXCHANGED = 0.15, 0.3  # chance of a step to be left out; of two to be exchanged


@dataclasses.dataclass(frozen=True)
class Event:
    """Who does what, from ``start`` for ``seconds``."""

    thing: Object
    motion: str
    start: float
    seconds: float


@dataclasses.dataclass
class Shot:
    """One scene of a stream: actors whose courses hold a frame each from ``first`` to the end."""

    first: int
    actors: list[Actor]
    busy_until: list[float]
    background_seed: int


@dataclasses.dataclass(frozen=True)
class Stream:
    """A script: shots in order, and the events in all of them."""

    frames: int
    fps: int
    shots: tuple[Shot, ...]
    events: tuple[Event, ...]


@dataclasses.dataclass(frozen=True)
class Procedure:
    """What an actor does: motions in order, no two neighbours alike, and how long each takes."""

    thing: Object
    steps: tuple[tuple[str, float], ...]


def draw_stream(
    rng: np.random.Generator, fps: int, kind: Kind, density: float, seconds: float | None = None
) -> Stream:
    """Writes the script of a stream, of seen pairs only.

    Args:
        density: mean number of events per second.
        seconds: length; ``None`` draws it from ``SECONDS``.

    Raises:
        ValueError: no such kind, or one event after another cannot be so dense.
    """
    seconds = rng.uniform(*SECONDS) if seconds is None else seconds
    frames = round(seconds * fps)
    if kind == "poisson":
        return _draw_poisson(rng, fps, density, seconds, frames)
    if kind != "procedural":
        raise ValueError(f"no streams of the kind {kind!r}; there are {', '.join(get_args(Kind))}")
    pause = 1 / density - _MEAN
    if pause < 0:
        raise ValueError(
            f"procedural streams cannot have {density} events per second: one after another, "
            f"they last {_MEAN} s in the mean; up to {math.floor(100 / _MEAN) / 100} fit"
        )
    return _draw_procedural(rng, fps, pause, seconds, frames)


def _draw_procedural(
    rng: np.random.Generator, fps: int, pause: float, seconds: float, frames: int
) -> Stream:
    things = draw_objects(rng, int(rng.integers(_PROCEDURES[0], _PROCEDURES[1] + 1)))
    procedures = [_draw_procedure(rng, thing) for thing in things]
    shots: list[Shot] = []
    events: list[Event] = []
    needed = max(_limits(motion)[0] for motion in motions.MOTIONS)  # seconds, of any step
    now, chosen = 0.0, len(procedures)
    while now + needed <= seconds - _PAUSE:
        chosen = int(rng.choice([i for i in range(len(procedures)) if i != chosen]))
        procedure = procedures[chosen]
        shot = _draw_shot(rng, math.ceil(now * fps), frames, [procedure.thing])
        now, before = shot.first / fps, None
        for motion, usual in _vary(rng, procedure.steps):
            duration = min(_vary_duration(rng, motion, usual), seconds - _PAUSE - now)
            # What was left out may leave two alike; and a step may find no room, or no time.
            shortest, _ = _limits(motion)
            if motion == before or duration < shortest:
                continue
            event = _perform(rng, shot, 0, motion, fps, now, duration)
            if event is not None:
                events.append(event)
                before = motion
                now += duration + rng.exponential(pause)
        if before is not None:
            shots.append(shot)
    return Stream(frames, fps, tuple(shots), tuple(events))


def _draw_procedure(rng: np.random.Generator, thing: Object) -> Procedure:
    count = int(rng.integers(_STEPS[0], _STEPS[1] + 1))
    steps: list[tuple[str, float]] = []
    while len(steps) < count:
        (seconds,) = _draw_durations(rng, 1, SECONDS[0])
        motion = _draw_motion(rng, thing, seconds)
        if motion is not None and (not steps or motion != steps[-1][0]):
            steps.append((motion, float(seconds)))
    return Procedure(thing, tuple(steps))


def _vary(
    rng: np.random.Generator, steps: tuple[tuple[str, float], ...]
) -> list[tuple[str, float]]:
    """The steps of one time: some left out, two neighbours perhaps exchanged."""
    kept = [step for step in steps if rng.random() >= _LEFT_OUT]
    if len(kept) > 1 and rng.random() < _EXCHANGED:
        index = int(rng.integers(len(kept) - 1))
        kept[index : index + 2] = reversed(kept[index : index + 2])
    return kept


def _vary_duration(rng: np.random.Generator, motion: str, usual: float) -> float:
    shortest, longest = _limits(motion)
    return float(np.clip(usual * rng.lognormal(0, _VARIATION), shortest, longest))


def _limits(motion: str) -> tuple[float, float]:
    """Seconds that an event with this motion lasts."""
    shortest, longest = motions.SECONDS.get(motion, (0, np.inf))
    return max(shortest, _SHORTEST), min(longest, _LONGEST)


def _draw_poisson(
    rng: np.random.Generator, fps: int, density: float, seconds: float, frames: int
) -> Stream:
    durations = _draw_durations(rng, rng.poisson(density * seconds), seconds)
    starts = np.sort(rng.uniform(_PAUSE, seconds - _PAUSE - _SHORTEST, len(durations)))
    shots, events, now = [_draw_shot(rng, 0, frames, _draw_cast(rng))], [], 0.0
    for start, duration in zip(starts, durations, strict=True):
        now = max(start, now)
        shot = shots[-1]
        quiet = max(shot.busy_until) + 2 * _PAUSE <= now
        if quiet and now - shot.first / fps >= _SCENE_SECONDS:
            shot = _draw_shot(rng, math.ceil((now - _PAUSE) * fps), frames, _draw_cast(rng))
            shots.append(shot)
        duration = min(duration, seconds - _PAUSE - now)
        while duration >= _SHORTEST:
            event = _act(rng, shot, fps, now, duration)
            if event is not None:
                events.append(event)
                break
            now += _DELAY
            duration = min(duration, seconds - _PAUSE - now)
    return Stream(frames, fps, tuple(shots), tuple(events))


def render_stream(stream: Stream, size: int) -> Iterator[np.ndarray]:
    """Draws the frames, uint8 [size, size, 3], one at a time."""
    ends = [shot.first for shot in stream.shots[1:]] + [stream.frames]
    for shot, end in zip(stream.shots, ends, strict=True):
        background = draw_background(shot.background_seed, size)
        for moment in range(end - shot.first):
            frame = background.copy()
            for actor in shot.actors:
                paste_sprite(
                    frame,
                    actor.thing.name,
                    actor.position[moment],
                    actor.size[moment],
                    actor.angle[moment],
                    actor.opacity[moment],
                )
            yield frame


def annotate_stream(stream: Stream, record_id: str, rng: np.random.Generator) -> Annotation:
    """All events, told one by one; ``times`` are their middles."""
    texts = [language.captions([(e.thing, e.motion)], rng, 1)[0] for e in stream.events]
    return Annotation(
        id=f"{record_id}/0",
        task="stream",
        query=language.CAPTION_QUERY,
        texts=tuple(texts),
        times=tuple(event.start + event.seconds / 2 for event in stream.events),
        durations=tuple(event.seconds for event in stream.events),
        tags={"kind": "stream", "phrasing": "seen", "seconds": f"{stream.frames / stream.fps:g}"},
    )


def _draw_durations(rng: np.random.Generator, count: int, seconds: float) -> np.ndarray:
    durations = np.empty(0)
    longest = min(_LONGEST, seconds - 2 * _PAUSE)
    while len(durations) < count:
        drawn = rng.lognormal(np.log(_MEDIAN), _SPREAD, count)
        durations = np.append(durations, drawn[(drawn >= _SHORTEST) & (drawn <= longest)])
    return durations[:count]


def _draw_cast(rng: np.random.Generator) -> list[Object]:
    return draw_objects(rng, int(rng.integers(_CAST[0], _CAST[1] + 1)))


def _draw_shot(rng: np.random.Generator, first: int, frames: int, cast: list[Object]) -> Shot:
    """Places a cast that is not seen yet, from frame ``first`` to the end of the stream."""
    length = frames - first
    actors: list[Actor] = []
    for thing in cast:
        while True:
            size = rng.uniform(*_SIZES)
            position = rng.uniform(size / 2, 1 - size / 2, 2)
            actor = Actor(
                thing,
                "still",
                np.tile(position, (length, 1)),
                np.full(length, size),
                np.full(length, rng.uniform(-LEAN, LEAN)),
                np.zeros(length),
            )
            if all(keeps_clear(actor.position[:1], actor.size[:1], other) for other in actors):
                break
        actors.append(actor)
    return Shot(first, actors, [0.0] * len(actors), int(rng.integers(2**31)))


def _act(
    rng: np.random.Generator, shot: Shot, fps: int, start: float, seconds: float
) -> Event | None:
    """Lets an idle actor do something for which there is room; None if chance found none."""
    idle = [index for index, until in enumerate(shot.busy_until) if until <= start]
    for _ in range(_CHOICES if idle else 0):
        index = idle[rng.integers(len(idle))]
        thing = shot.actors[index].thing
        motion = _draw_motion(rng, thing, seconds)
        if motion is None:
            continue
        event = _perform(rng, shot, index, motion, fps, start, seconds)
        if event is not None:
            return event
    return None


def _perform(
    rng: np.random.Generator,
    shot: Shot,
    index: int,
    motion: str,
    fps: int,
    start: float,
    seconds: float,
) -> Event | None:
    """Lets an actor make a motion if there is room for it; None if chance found none."""
    for _ in range(_COURSES):
        moved = _move(rng, shot, index, motion, fps, start, seconds)
        if _fits(moved, [other for i, other in enumerate(shot.actors) if i != index]):
            shot.actors[index] = moved
            shot.busy_until[index] = start + seconds
            return Event(shot.actors[index].thing, motion, float(start), float(seconds))
    return None


def _move(
    rng: np.random.Generator,
    shot: Shot,
    index: int,
    motion: str,
    fps: int,
    start: float,
    seconds: float,
) -> Actor:
    """The course of an actor that comes, makes ``motion``, and is seen no more."""
    actor = shot.actors[index]
    clock = (np.arange(len(actor.size)) + shot.first) / fps
    change = motions.draw_change(
        motion,
        np.clip((clock - start) / seconds, 0, 1),
        seconds,
        rng,
        reach=rng.uniform(*_REACHES),
        ratio=rng.uniform(*_RATIOS),
        at_rest=True,
    )
    return Actor(
        actor.thing,
        motion,
        actor.position + change.offset,
        actor.size * change.scale,
        actor.angle + change.turn,
        np.where(clock < start, actor.opacity, change.opacity * (clock <= start + seconds)),
    )


def _draw_motion(rng: np.random.Generator, thing: Object, seconds: float) -> str | None:
    """Draws what an object can do in this time, if anything; to stand still is no event."""
    choices = []
    for motion in pairs.motions_of(thing.name, unseen=False):
        shortest, longest = motions.SECONDS.get(motion, (0, np.inf))
        if motion != "still" and shortest <= seconds <= longest:
            choices.append(motion)
    return str(rng.choice(choices)) if choices else None


def _fits(actor: Actor, others: list[Actor]) -> bool:
    """Inside the picture, of a size that can be seen and leaves room, and clear of the others."""
    margin = actor.size[:, None] / 2
    inside = (actor.position >= margin).all() and (actor.position <= 1 - margin).all()
    sized = actor.size.min() >= _SMALLEST and actor.size.max() <= _LARGEST
    clear = all(keeps_clear(actor.position, actor.size, other) for other in others)
    return bool(inside and sized and clear)
