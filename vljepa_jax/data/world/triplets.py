"""Text triplets: two paraphrases and a sentence that says something else in nearly their words.

Some test a text encoder; others, of a wider kind and in seen words only, train one.
"""

import numpy as np

from vljepa_jax.data.records import Annotation
from vljepa_jax.data.world import language, pairs
from vljepa_jax.data.world.language import Event
from vljepa_jax.data.world.motions import MOTIONS
from vljepa_jax.data.world.objects import BY_NAME, OBJECTS, Object
from vljepa_jax.data.world.phrases import MOTIONS as WORDINGS
from vljepa_jax.data.world.scene import draw_cast, draw_motions, draw_objects

SUBSETS = ("attribute", "object", "relation")
_ANSWERS, _LAYOUTS = 0.3, 0.1  # shares of the training triplets; the others say events


def draw_triplet(
    record_id: str, subset: str, rng: np.random.Generator, *, unseen: bool
) -> Annotation:
    """Draws (paraphrase, paraphrase, negative), text alone.

    The negative has the first paraphrase's wording, with a colour (``attribute``), an object
    (``object``), or who does what or stands where (``relation``) changed or swapped.

    Args:
        unseen: what the paraphrases say are pairs that training never shows; the negative may
            say any. Else all say seen pairs.
    """
    if subset == "relation" and rng.random() < 0.5:
        texts = _layout_triplet(rng)
    else:
        texts = _event_triplet(subset, rng, unseen)
    return Annotation(
        id=f"{record_id}/0",
        task="triplet",
        texts=texts,
        inputs=(),
        tags={"kind": "triplet", "phrasing": "seen", "subset": subset},
    )


def draw_training_triplet(record_id: str, rng: np.random.Generator) -> Annotation:
    """Draws a triplet for training: whole scenes of seen pairs, places and short answers."""
    kind = rng.random()
    if kind < _ANSWERS:
        subset, texts = "answer", _answer_triplet(rng)
    elif kind < _ANSWERS + _LAYOUTS:
        subset, texts = "relation", _layout_triplet(rng)
    else:
        subset, texts = "scene", _scene_triplet(rng)
    return Annotation(
        id=f"{record_id}/0",
        task="triplet",
        texts=texts,
        inputs=(),
        tags={"kind": "triplet", "phrasing": "seen", "subset": subset},
    )


def _scene_triplet(rng: np.random.Generator) -> tuple[str, str, str]:
    changes = (_other_colour, _other_object, _other_roles, _other_motion)
    while True:
        events = draw_cast(rng, unseen=False)
        changed = changes[rng.integers(len(changes))](events, rng)
        if changed is not None and not _says_held_out(changed):
            return _say(events, changed, rng)


def _answer_triplet(rng: np.random.Generator) -> tuple[str, str, str]:
    """An answer, the same in other words, and another answer to the same question."""
    kind = rng.integers(3)
    if kind == 0:
        (thing,) = draw_objects(rng, 1)
        pool = [o for o in OBJECTS if o != thing and thing.noun == o.noun] or OBJECTS
        other = next(o for o in map(pool.__getitem__, rng.permutation(len(pool))) if o != thing)
        return thing.name, (thing.indefinite, thing.definite)[rng.integers(2)], other.name
    if kind == 1:
        one, other = (WORDINGS[MOTIONS[index]] for index in rng.choice(len(MOTIONS), 2, False))
        phrase = one.seen[rng.integers(len(one.seen))]
        return one.label, (phrase.gerund, f"it {phrase.verb}")[rng.integers(2)], other.label
    labels = language.COUNT_LABELS
    one, other = (labels[index] for index in rng.choice(len(labels), 2, False))
    things = ("object", "thing")[rng.integers(2)] + ("" if one == labels[0] else "s")
    return one, f"{one} {things}", other


def _layout_triplet(rng: np.random.Generator) -> tuple[str, str, str]:
    left, right = draw_objects(rng, 2)
    texts, swapped = language.layouts(left, right), language.layouts(right, left)
    first, second = rng.integers(2), 2 + rng.integers(2)
    if rng.random() < 0.5:
        first, second = second, first
    return texts[first], texts[second], swapped[first]


def _event_triplet(subset: str, rng: np.random.Generator, unseen: bool) -> tuple[str, str, str]:
    change = {"attribute": _other_colour, "object": _other_object, "relation": _other_roles}[subset]
    while True:
        things = draw_objects(rng, 1 + int(rng.integers(2)))
        events = draw_motions(rng, things, unseen=unseen)
        changed = change(events, rng)
        if changed is None:
            continue
        if unseen or not _says_held_out(changed):
            return _say(events, changed, rng)


def _says_held_out(events: list[Event]) -> bool:
    return any((thing.name, motion) in pairs.held_out() for thing, motion in events)


def _say(
    events: list[Event], changed: list[Event], rng: np.random.Generator
) -> tuple[str, str, str]:
    """Says ``events`` in two ways, and ``changed`` in the first of them."""
    # The same draws give both sentences the same template, order and phrases.
    wording = int(rng.integers(2**31))
    (first,) = language.captions(events, np.random.default_rng(wording), 1)
    (negative,) = language.captions(changed, np.random.default_rng(wording), 1)
    second = next(text for text in language.captions(events, rng, 2) if text != first)
    return first, second, negative


def _other_colour(events: list[Event], rng: np.random.Generator) -> list[Event] | None:
    """Swaps two objects' colours where both names exist, else gives one another colour."""
    coloured = [index for index, (thing, _) in enumerate(events) if thing.colour]
    if len(coloured) == len(events) == 2:
        (one, move), (other, other_move) = events
        swapped = [f"{other.colour} {one.noun}", f"{one.colour} {other.noun}"]
        if one.noun != other.noun and one.colour != other.colour and set(swapped) <= set(BY_NAME):
            return [(BY_NAME[swapped[0]], move), (BY_NAME[swapped[1]], other_move)]
    if not coloured:
        return None
    index = coloured[rng.integers(len(coloured))]
    noun = events[index][0].noun
    return _replace(events, index, [thing for thing in OBJECTS if thing.noun == noun], rng)


def _other_object(events: list[Event], rng: np.random.Generator) -> list[Event] | None:
    """Names another kind of thing, of the same category."""
    index = int(rng.integers(len(events)))
    thing = events[index][0]
    pool = [o for o in OBJECTS if o.category == thing.category and o.noun != thing.noun]
    return _replace(events, index, pool, rng)


def _other_roles(events: list[Event], rng: np.random.Generator) -> list[Event] | None:
    """Lets two objects swap their motions."""
    if len(events) < 2:
        return None
    first, second = rng.choice(len(events), 2, replace=False)
    (one, move), (other, other_move) = events[first], events[second]
    if move == other_move:
        return None
    changed = list(events)
    changed[first], changed[second] = (one, other_move), (other, move)
    return changed


def _other_motion(events: list[Event], rng: np.random.Generator) -> list[Event]:
    """Lets an object do something else."""
    changed, index = list(events), int(rng.integers(len(events)))
    thing, motion = events[index]
    others = [m for m in pairs.motions_of(thing.name, unseen=False) if m != motion]
    changed[index] = (thing, str(others[rng.integers(len(others))]))
    return changed


def _replace(
    events: list[Event], index: int, pool: list[Object], rng: np.random.Generator
) -> list[Event] | None:
    named = [thing for thing, _ in events]
    pool = [thing for thing in pool if thing not in named]
    if not pool:
        return None
    changed = list(events)
    changed[index] = (pool[rng.integers(len(pool))], events[index][1])
    return changed
