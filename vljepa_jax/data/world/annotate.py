"""Clips and state pairs -> annotations: captions, questions with answers, states."""

import itertools
from collections import Counter

import numpy as np

from vljepa_jax.data.records import LABELS_PREFIX, Annotation
from vljepa_jax.data.world import language
from vljepa_jax.data.world.motions import MOTIONS
from vljepa_jax.data.world.objects import BY_NAME, COLOURS, OBJECTS, Object
from vljepa_jax.data.world.phrases import MOTIONS as WORDINGS
from vljepa_jax.data.world.scene import Actor, Scene
from vljepa_jax.data.world.states import CANDIDATES, StateChange

PARAPHRASES = 4  # of each caption
_CLEARLY = 0.06  # image sides between the centres of what is called left and right
_HARD = 0.6  # share of "is there" questions with answer "no" that ask for something similar
_OBJECT_INDEX = {name: index for index, name in enumerate(BY_NAME)}


def annotate_clip(
    scene: Scene,
    record_id: str,
    rng: np.random.Generator,
    *,
    held_out_phrasing: bool,
    wordings: int = 0,
) -> tuple[Annotation, ...]:
    """Everything that is said and asked about a clip.

    Args:
        held_out_phrasing: adds a caption in words that training never hears.
        wordings: see ``language.captions``.
    """
    annotations = [
        *_captions(scene, rng, held_out_phrasing, wordings),
        *_motion_questions(scene, rng),
        *_object_questions(scene, rng),
        _count_question(scene, rng),
        *_presence_questions(scene, rng),
        *_colour_questions(scene),
        *_layout(scene, rng),
    ]
    return tuple(
        Annotation(id=f"{record_id}/{number}", **fields)
        for number, fields in enumerate(annotations)
    )


def annotate_state_change(
    change: StateChange, record_id: str, rng: np.random.Generator, order: np.ndarray | None
) -> Annotation:
    """The one annotation of a state pair (media 0 and 1 are the images).

    Args:
        order: the order of the candidate clips (media 2, 3, ...), a permutation of the change's
            scenes; ``None`` where the record holds no candidates.
    """
    scene = change.scenes[0]
    candidates = {}
    if order is not None:
        gold = int(np.flatnonzero(order == 0)[0])
        candidates = {"candidate_media": tuple(range(2, 2 + CANDIDATES)), "gold": gold}
    return Annotation(
        id=f"{record_id}/0",
        task="state",
        query=language.STATE_QUERY,
        texts=language.captions(_events(scene), rng, PARAPHRASES),
        inputs=(0, 1),
        tags=_tags("state", scene, object=change.thing.name, motion=change.motion),
        **candidates,
    )


def _events(scene: Scene) -> list[language.Event]:
    return [(actor.thing, actor.motion) for actor in scene.actors]


def _tags(kind: str, scene: Scene, phrasing: str = "seen", **more: str) -> dict[str, str]:
    return {"kind": kind, "phrasing": phrasing, "objects": str(len(scene.actors)), **more}


def _captions(scene: Scene, rng: np.random.Generator, held_out: bool, wordings: int) -> list[dict]:
    return [
        {
            "task": "caption",
            "query": language.CAPTION_QUERY,
            "texts": language.captions(
                _events(scene), rng, PARAPHRASES, held_out=unheard, wordings=wordings
            ),
            "tags": _tags(
                "caption", scene, "held_out" if unheard else "seen", meaning=scene.meaning
            ),
        }
        for unheard in ([False, True] if held_out else [False])
    ]


def _motion_questions(scene: Scene, rng: np.random.Generator) -> list[dict]:
    return [
        {
            "task": "classification",
            "query": language.ask_motion(actor.thing, rng),
            "texts": (WORDINGS[actor.motion].label,),
            "candidates": LABELS_PREFIX + "motions",
            "gold": MOTIONS.index(actor.motion),
            "tags": _tags("motion", scene, object=actor.thing.name, motion=actor.motion),
        }
        for actor in scene.actors
    ]


def _object_questions(scene: Scene, rng: np.random.Generator) -> list[dict]:
    """ "Which object spins?" and "What is spinning?", of motions that one object alone makes."""
    times = Counter(actor.motion for actor in scene.actors)
    questions = []
    for actor in scene.actors:
        if times[actor.motion] > 1:
            continue
        alone = len(scene.actors) == 1
        named = None if alone and rng.random() < 0.5 else actor.motion
        answer = {
            "texts": (actor.thing.name,),
            "candidates": LABELS_PREFIX + "objects",
            "gold": _OBJECT_INDEX[actor.thing.name],
        }
        tags = {"object": actor.thing.name, "motion": actor.motion}
        questions += [
            {
                "task": "classification",
                "query": language.ask_object(named, rng),
                "tags": _tags("object", scene, **tags),
                **answer,
            },
            {
                "task": "vqa",
                "query": language.ask_what(actor.motion, rng),
                "tags": _tags("what", scene, **tags),
                **answer,
            },
        ]
    return questions


def _count_question(scene: Scene, rng: np.random.Generator) -> dict:
    count = len(scene.actors)
    return {
        "task": "vqa",
        "query": language.ask_count(rng),
        "texts": (language.COUNT_LABELS[count - 1],),
        "candidates": LABELS_PREFIX + "counts",
        "gold": count - 1,
        "tags": _tags("count", scene),
    }


def _presence_questions(scene: Scene, rng: np.random.Generator) -> list[dict]:
    """One question whose answer is yes and one whose answer is no."""
    present = [actor.thing for actor in scene.actors]
    asked = (present[rng.integers(len(present))], _absent(present, rng))
    return [
        {
            "task": "vqa",
            "query": language.ask_presence(thing, rng),
            "texts": (answer,),
            "candidates": LABELS_PREFIX + "yes_no",
            "gold": language.YES_NO_LABELS.index(answer),
            "tags": _tags("presence", scene, object=thing.name, answer=answer),
        }
        for thing, answer in zip(asked, language.YES_NO_LABELS, strict=True)
    ]


def _absent(present: list[Object], rng: np.random.Generator) -> Object:
    """Draws what is not there: often another colour, or the category, of something that is."""
    pool = [thing for thing in OBJECTS if thing not in present]
    model = present[rng.integers(len(present))]
    if rng.random() < _HARD:
        family = [thing for thing in pool if thing.noun == model.noun]
        pool = family or [thing for thing in pool if thing.category == model.category] or pool
    return pool[rng.integers(len(pool))]


def _colour_questions(scene: Scene) -> list[dict]:
    nouns = Counter(actor.thing.noun for actor in scene.actors)
    return [
        {
            "task": "vqa",
            "query": language.ask_colour(actor.thing),
            "texts": (actor.thing.colour,),
            "candidates": LABELS_PREFIX + "colours",
            "gold": COLOURS.index(actor.thing.colour),
            "tags": _tags("colour", scene, object=actor.thing.name),
        }
        for actor in scene.actors
        if actor.thing.colour and nouns[actor.thing.noun] == 1
    ]


def _layout(scene: Scene, rng: np.random.Generator) -> list[dict]:
    """Asks for one pair, if any, that is in the same order from left to right all the time."""
    ordered = [
        (one, other)
        for one, other in itertools.permutations(scene.actors, 2)
        if _is_left_of(one, other)
    ]
    if not ordered:
        return []
    left, right = (actor.thing for actor in ordered[rng.integers(len(ordered))])
    side = ("left", "right")[rng.integers(2)]
    asked = (left, right) if rng.random() < 0.5 else (right, left)
    answer = left if side == "left" else right
    texts = language.layouts(left, right)
    return [
        {
            "task": "vqa",
            "query": language.ask_side(side, *asked),
            "texts": (answer.name,),
            "candidates": tuple(thing.name for thing in asked),
            "gold": asked.index(answer),
            "tags": _tags("relation", scene),
        },
        {
            "task": "caption",
            "query": language.ask_layout(left, right, rng),
            "texts": tuple(texts[index] for index in rng.permutation(len(texts))),
            "tags": _tags("layout", scene),
        },
    ]


def _is_left_of(one: Actor, other: Actor) -> bool:
    return bool(one.position[:, 0].max() + _CLEARLY < other.position[:, 0].min())
