"""Which (object, motion) pairs training never shows.

About a tenth of all pairs, drawn at random by a constant of its own: a structured hold-out (all
motions of one object, say) would teach the wrong prior. Every object loses one or two motions,
so that each can take part in the compositional test.
"""

import functools

import numpy as np

from vljepa_jax.data.world.motions import MOTIONS
from vljepa_jax.data.world.objects import OBJECTS

_SEED = 20_251_210  # fixed for good: the split must not move with WorldConfig.seed
_TWO_HELD_OUT = 0.4  # share of objects that lose two motions: 1.4 of 14 are a tenth


@functools.cache
def held_out() -> frozenset[tuple[str, str]]:
    """All held-out (object name, motion) pairs."""
    rng = np.random.default_rng(_SEED)
    pairs = set()
    for thing in OBJECTS:
        count = 1 + int(rng.random() < _TWO_HELD_OUT)
        for motion in rng.choice(MOTIONS, count, replace=False):
            pairs.add((thing.name, str(motion)))
    return frozenset(pairs)


@functools.cache
def motions_of(name: str, *, unseen: bool) -> tuple[str, ...]:
    """The motions an object may make: the held-out ones (``unseen``), or all the others."""
    return tuple(motion for motion in MOTIONS if ((name, motion) in held_out()) == unseen)
