"""What comes next: each step of a scripted stream's procedures, asked for from what is before it.

In a stream a procedure is carried out again and again, so that the first half of a stream shows
what to expect of the second: the former is for training, the latter for the test. Of two steps that
follow one another in one scene, two questions ask for the motion of the second:

- "next_step", as COIN's: shown is the first step, from its start to its end;
- "anticipation", as EPIC-KITCHENS': shown are 4 s that end 1 s before the second begins.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator

import numpy as np

from vljepa_jax.data.records import LABELS_PREFIX, Annotation, Medium, Record
from vljepa_jax.data.world.motions import MOTIONS
from vljepa_jax.data.world.render import clip_medium
from vljepa_jax.data.world.streams import Event, Stream, render_stream

BEFORE, SHOWN = 1.0, 4.0  # seconds: what anticipation shows ends so long before, and lasts


def make_steps(stream: Stream, record_id: str, size: int, *, train: bool) -> Record:
    """A record of all clips and questions of one half of a stream.

    Args:
        size: pixels of a frame's side.
        train: the first half; else the second.
    """
    frames = np.stack(list(render_stream(stream, size)))
    media: list[Medium] = []
    annotations: list[Annotation] = []
    for step, following in _pairs(stream, train):
        until = following.start - BEFORE
        spans = {
            "next_step": (step.start, step.start + step.seconds),
            "anticipation": (until - SHOWN, until),
        }
        for kind, (start, end) in spans.items():
            # At least one frame; what would begin before the stream begins with it.
            first = max(0, round(start * stream.fps))
            last = max(first + 1, round(end * stream.fps))
            annotations.append(
                Annotation(
                    id=f"{record_id}/{len(media)}",
                    task="classification",
                    inputs=(len(media),),
                    candidates=f"{LABELS_PREFIX}motions",
                    gold=list(MOTIONS).index(following.motion),
                    tags={"kind": kind, "object": following.thing.name, "before": step.motion},
                )
            )
            media.append(clip_medium(list(frames[first:last]), stream.fps))
    return Record(record_id, tuple(media), tuple(annotations))


def _pairs(stream: Stream, train: bool) -> Iterator[tuple[Event, Event]]:
    """Steps that follow one another in one scene of the half."""
    cuts = [shot.first / stream.fps for shot in stream.shots]
    middle = stream.frames / stream.fps / 2
    for step, following in itertools.pairwise(stream.events):
        scenes = [bisect.bisect_right(cuts, event.start) for event in (step, following)]
        if scenes[0] == scenes[1] and (following.start < middle) == train:
            yield step, following
