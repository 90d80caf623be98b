"""The motions of the world, as curves over the course of one event.

A motion changes one channel of an object's pose: its position, size, angle or opacity. Curves
are relative (offset, factor, turn), so that clips, state pairs and streams share them.
"""

import dataclasses

import numpy as np

POSITION = ("left", "right", "up", "down", "bounce", "jump", "orbit", "shake")
SIZE = ("grow", "shrink")
ANGLE = ("spin",)
OPACITY = ("fade", "appear")
MOTIONS = (*POSITION, *SIZE, *ANGLE, *OPACITY, "still")

# Motions that leave an object in another state than they found it.
STATE_MOTIONS = ("left", "right", "up", "down", "grow", "shrink", "fade")
# Motions that need a length of event to be told from others (bounce: two arcs; jump: one),
# in seconds (from, to).
SECONDS = {"bounce": (1.2, np.inf), "orbit": (1.2, np.inf), "jump": (0.5, 1.6)}

FAINT = 0.1  # opacity of what has faded, or has yet to appear
_DIRECTION = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclasses.dataclass(frozen=True)
class Change:
    """The effect of a motion on a pose at T moments.

    Attributes:
        offset: [T, 2], added to the position (x right, y down), in image sides.
        scale: [T], multiplies the size.
        turn: [T], added to the angle, in degrees.
        opacity: [T], multiplies the opacity.
    """

    offset: np.ndarray
    scale: np.ndarray
    turn: np.ndarray
    opacity: np.ndarray


def draw_change(
    motion: str,
    progress: np.ndarray,
    seconds: float,
    rng: np.random.Generator,
    *,
    reach: float,
    ratio: float,
    at_rest: bool,
) -> Change:
    """Draws one instance of ``motion``, its speed and phase.

    Args:
        motion: one of ``MOTIONS``.
        progress: [T], 0 at the beginning of the event and 1 at its end.
        seconds: length of the event.
        reach: how far the object moves, in image sides.
        ratio: larger size over smaller size, for grow and shrink.
        at_rest: the event begins and ends at rest (state pairs, streams); else it may be cut at
            any phase (clips).

    Raises:
        ValueError: no such motion.
    """
    if motion not in MOTIONS:
        raise ValueError(f"no motion {motion!r}; there are {', '.join(MOTIONS)}")
    offset, scale = np.zeros((len(progress), 2)), np.ones(len(progress))
    turn, opacity = np.zeros(len(progress)), np.ones(len(progress))
    begin, end = (0.0, 1.0) if at_rest else (rng.uniform(0, 0.15), rng.uniform(0.85, 1))
    ramp = np.clip((progress - begin) / (end - begin), 0, 1)
    if motion in _DIRECTION:
        offset = reach * ramp[:, None] * np.array(_DIRECTION[motion])
    elif motion in POSITION:
        offset = _swing(motion, progress, seconds, rng, reach, at_rest)
    elif motion == "grow":
        scale = ratio**ramp
    elif motion == "shrink":
        scale = ratio**-ramp
    elif motion == "spin":
        turns = rng.uniform(0.4, 0.8) * seconds  # per second; no sampling of 8 frames aliases it
        turn = rng.choice((-360, 360)) * turns * progress
    elif motion in OPACITY:
        faint = FAINT if at_rest else rng.uniform(FAINT, 0.35)
        opacity = faint + (1 - faint) * (ramp if motion == "appear" else 1 - ramp)
    return Change(offset, scale, turn, opacity)


def _swing(
    motion: str,
    progress: np.ndarray,
    seconds: float,
    rng: np.random.Generator,
    reach: float,
    at_rest: bool,
) -> np.ndarray:
    """Offsets [T, 2] of the motions that come back."""
    rates = {"bounce": (1.0, 1.6), "orbit": (0.45, 0.8), "shake": (2.2, 3.0)}
    if motion == "jump":
        length = min(1.0, rng.uniform(0.6, 1.0) / seconds)
        begin = rng.uniform(0, 1 - length)
        arc = np.clip((progress - begin) / length, 0, 1)
        return np.stack([0 * arc, -reach * 0.8 * 4 * arc * (1 - arc)], -1)
    cycles, phase = rng.uniform(*rates[motion]) * seconds, rng.random()
    if at_rest:
        cycles, phase = max(1, round(cycles)), 0.0
    turns = cycles * progress + phase
    if motion == "bounce":
        arc = turns % 1
        return np.stack([0 * arc, -reach * 0.7 * 4 * arc * (1 - arc)], -1)
    if motion == "orbit":
        angle = 2 * np.pi * turns * rng.choice((-1, 1))
        return reach * 0.35 * np.stack([np.cos(angle) - 1, np.sin(angle)], -1)
    width = rng.uniform(0.04, 0.075)
    return np.stack([width * np.sin(2 * np.pi * turns), 0 * turns], -1)
