"""Scenes: which objects, which motions, and where everything is at every frame.

One frame must not tell the motion. Where a moving object stands, how large, how turned and how
opaque it is at some moment must be as likely for an object that does something else. So every
object draws a value for each channel from a moving object's course, and the channels that its
own motion does not use are frozen at a random moment of it.
"""

import dataclasses

import numpy as np

from vljepa_jax.data.world import motions, pairs
from vljepa_jax.data.world.objects import OBJECTS, Object

# Share of scenes with 1, 2, ... 5 objects, the same in every split.
COUNT_SHARES = (0.42, 0.28, 0.15, 0.09, 0.06)
# By number of objects: (smallest, largest) size and reach, in image sides.
_SIZES = ((0.18, 0.52), (0.17, 0.40), (0.16, 0.34), (0.16, 0.31), (0.16, 0.29))
_REACHES = ((0.22, 0.42), (0.18, 0.36), (0.17, 0.32), (0.16, 0.28), (0.15, 0.26))
_RATIOS = (1.45, 1.75)  # larger size over smaller size, of what grows or shrinks
_TURNED = 0.4  # share of objects that stand at any angle; the others lean a little
LEAN = 15.0  # degrees
_TRANSLUCENT = 0.3  # share of objects that do not fade but are not opaque either
_SAME_FAMILY = 0.25  # chance that the next object has the noun of the one before, if it has colours
# Centres of two objects stay this far apart, in sums of their radii: they touch at most.
_APART = 0.8


@dataclasses.dataclass(frozen=True)
class Actor:
    """One object of a scene and its course over T frames.

    Attributes:
        thing: what it is.
        motion: what it does.
        position: [T, 2], centre, in image sides (x right, y down).
        size: [T], side of its square, in image sides.
        angle: [T], degrees, counter-clockwise.
        opacity: [T], in [0, 1].
    """

    thing: Object
    motion: str
    position: np.ndarray
    size: np.ndarray
    angle: np.ndarray
    opacity: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scene:
    """Objects over a background; later actors lie on top."""

    actors: tuple[Actor, ...]
    background_seed: int

    @property
    def meaning(self) -> str:
        """Canonical name of the set of events: two scenes that mean the same share it."""
        return "+".join(sorted(f"{actor.thing.name}:{actor.motion}" for actor in self.actors))


def draw_cast(rng: np.random.Generator, *, unseen: bool) -> list[tuple[Object, str]]:
    """Draws distinct objects with a motion each, all pairs unseen in training or all seen."""
    count = 1 + int(rng.choice(len(COUNT_SHARES), p=COUNT_SHARES))
    return draw_motions(rng, draw_objects(rng, count), unseen=unseen)


def draw_motions(
    rng: np.random.Generator, things: list[Object], *, unseen: bool
) -> list[tuple[Object, str]]:
    """Draws a motion for each object, all pairs unseen in training or all seen."""
    return [
        (thing, str(rng.choice(pairs.motions_of(thing.name, unseen=unseen)))) for thing in things
    ]


def draw_objects(rng: np.random.Generator, count: int) -> list[Object]:
    """Draws distinct objects; some share a noun, so that colours tell them apart."""
    chosen: list[Object] = []
    while len(chosen) < count:
        pool = [thing for thing in OBJECTS if thing not in chosen]
        if chosen and rng.random() < _SAME_FAMILY:
            pool = [thing for thing in pool if thing.noun == chosen[-1].noun] or pool
        chosen.append(pool[rng.integers(len(pool))])
    return chosen


def draw_scene(
    rng: np.random.Generator, cast: list[tuple[Object, str]], frames: int, fps: int
) -> Scene:
    """Draws the course of every object so that none leaves the picture or hides another."""
    shrink = 1.0
    while True:
        actors: list[Actor] = []
        for thing, motion in cast:
            actor = _draw_actor(rng, thing, motion, actors, len(cast), frames, fps, shrink)
            if actor is None:
                break
            actors.append(actor)
        else:
            return Scene(tuple(actors), int(rng.integers(2**31)))
        shrink *= 0.97  # a crowd that does not fit is drawn again, a little smaller


def _draw_actor(
    rng: np.random.Generator,
    thing: Object,
    motion: str,
    others: list[Actor],
    count: int,
    frames: int,
    fps: int,
    shrink: float,
) -> Actor | None:
    """Draws an actor that keeps clear of ``others``, or None where chance found no place."""
    seconds, progress = max(1, frames - 1) / fps, np.linspace(0, 1, frames)
    smallest, largest = _SIZES[count - 1]
    ratio = rng.uniform(*_RATIOS)
    low = smallest * (largest / ratio / smallest) ** rng.random() * shrink
    reach = rng.uniform(*_REACHES[count - 1]) * shrink

    def change_of(name: str) -> motions.Change:
        return motions.draw_change(
            name, progress, seconds, rng, reach=reach, ratio=ratio, at_rest=False
        )

    own = change_of(motion)
    size = low * ratio ** {"grow": 0.0, "shrink": 1.0}.get(motion, rng.random()) * own.scale
    path = own.offset
    if motion not in motions.POSITION:
        path = change_of(str(rng.choice(motions.POSITION))).offset
    margin = size.max() / 2
    lowest, highest = margin - path.min(0), 1 - margin - path.max(0)
    if (lowest > highest).any():
        return None
    if motion not in motions.POSITION:
        path = np.repeat(path[rng.integers(frames)][None], frames, 0)
    opacity = own.opacity
    if motion not in motions.OPACITY and rng.random() < _TRANSLUCENT:
        opacity = opacity * rng.uniform(0.4, 0.9)
    turned = rng.random() < _TURNED
    angle = (rng.uniform(0, 360) if turned else rng.uniform(-LEAN, LEAN)) + own.turn
    starts = rng.uniform(lowest, highest, (64, 2))
    for start in starts:
        position = path + start
        if all(keeps_clear(position, size, other) for other in others):
            return Actor(thing, motion, position, size, angle, opacity)
    return None


def keeps_clear(position: np.ndarray, size: np.ndarray, other: Actor) -> bool:
    """Whether a course (position [T, 2], size [T]) stays clear of ``other``'s."""
    distance = np.hypot(*(position - other.position).T)
    return bool((distance >= _APART * (size + other.size) / 2).all())
