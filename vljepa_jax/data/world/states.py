"""State pairs: what happened between two images, and what might have happened instead."""

import dataclasses

import numpy as np

from vljepa_jax.data.world import motions, pairs
from vljepa_jax.data.world.objects import Object
from vljepa_jax.data.world.scene import LEAN, Actor, Scene, draw_objects, keeps_clear

CANDIDATES = 4
_SIZES, _REACHES, _RATIOS = (0.20, 0.30), (0.20, 0.34), (1.5, 1.9)
_BYSTANDER = 0.5  # chance of a second object
_ATTEMPTS = 60  # places tried before the scene is drawn anew


@dataclasses.dataclass(frozen=True)
class StateChange:
    """``CANDIDATES`` scenes that begin alike; the first is what happened.

    The others are the same object in other motions and, where there is a second object, once
    that one in the same motion. One object acts, the other stays still.
    """

    scenes: tuple[Scene, ...]
    thing: Object  # who acts in the first scene
    motion: str  # what it does there


def draw_state_change(
    rng: np.random.Generator, frames: int, fps: int, *, unseen: bool
) -> StateChange:
    """Draws an action that changes a state, with its alternatives.

    Args:
        unseen: what happened is a pair that training never shows; what did not happen may be
            any pair, for no object has four unseen motions. Else every pair is a seen one.
    """
    while True:
        things = draw_objects(rng, 1 + int(rng.random() < _BYSTANDER))
        events = _draw_events(rng, things, unseen)
        scenes = _draw_scenes(rng, things, events, frames, fps) if events else None
        if scenes is not None:
            return StateChange(scenes, things[0], events[0][1])


def _draw_events(
    rng: np.random.Generator, things: list[Object], unseen: bool
) -> list[tuple[int, str]]:
    """Draws (index of who acts, motion) per candidate; empty where the pairs do not allow it."""

    def changes(thing: Object, *, unseen: bool) -> list[str]:
        allowed = pairs.motions_of(thing.name, unseen=unseen)
        return [motion for motion in motions.STATE_MOTIONS if motion in allowed]

    def rests(thing: Object) -> bool:
        return "still" in pairs.motions_of(thing.name, unseen=False)

    actual = changes(things[0], unseen=unseen)
    if not actual or (len(things) == 2 and not unseen and not all(map(rests, things))):
        return []
    motion = str(rng.choice(actual))
    usable = motions.STATE_MOTIONS if unseen else changes(things[0], unseen=False)
    others = [(0, str(other)) for other in rng.permutation(usable) if other != motion]
    if len(things) == 2:
        if not unseen and motion not in changes(things[1], unseen=False):
            return []
        others.insert(0, (1, motion))
    return [(0, motion), *others[: CANDIDATES - 1]]


def _draw_scenes(
    rng: np.random.Generator,
    things: list[Object],
    events: list[tuple[int, str]],
    frames: int,
    fps: int,
) -> tuple[Scene, ...] | None:
    """Plays the events from one common start; None where chance found no clear place."""
    progress, seconds = np.linspace(0, 1, frames), max(1, frames - 1) / fps
    background = int(rng.integers(2**31))
    sizes = rng.uniform(*_SIZES, len(things)) * (1.0 if len(things) == 1 else 0.8)
    angles = rng.uniform(-LEAN, LEAN, len(things))
    settings = {"reach": rng.uniform(*_REACHES), "ratio": rng.uniform(*_RATIOS), "at_rest": True}
    still = motions.draw_change("still", progress, seconds, rng, **settings)
    changes = [motions.draw_change(name, progress, seconds, rng, **settings) for _, name in events]

    # The start must leave room for every candidate, or it would tell which one happened.
    lowest, highest = np.zeros((2, len(things), 2))
    for index, size in enumerate(sizes):
        own = [
            change for (acting, _), change in zip(events, changes, strict=True) if acting == index
        ] or [still]
        margin = size * max(change.scale.max() for change in own) / 2
        lowest[index] = margin - np.min([change.offset.min(0) for change in own], 0)
        highest[index] = 1 - margin - np.max([change.offset.max(0) for change in own], 0)
    if (lowest > highest).any():
        return None
    for _ in range(_ATTEMPTS):
        starts = rng.uniform(lowest, highest)
        scenes = []
        for (acting, name), change in zip(events, changes, strict=True):
            actors: list[Actor] = []
            for index, thing in enumerate(things):
                moves = change if index == acting else still
                actors.append(
                    Actor(
                        thing,
                        name if index == acting else "still",
                        starts[index] + moves.offset,
                        sizes[index] * moves.scale,
                        angles[index] + moves.turn,
                        moves.opacity,
                    )
                )
            scenes.append(Scene(tuple(actors), background))
        if all(_is_clear(scene) for scene in scenes):
            return tuple(scenes)
    return None


def _is_clear(scene: Scene) -> bool:
    first, *others = scene.actors
    return all(keeps_clear(first.position, first.size, other) for other in others)
