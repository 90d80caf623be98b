"""Events -> sentences, questions and answers."""

from collections.abc import Sequence

import numpy as np

from vljepa_jax.data.records import Label
from vljepa_jax.data.world.motions import MOTIONS
from vljepa_jax.data.world.objects import COLOURS, OBJECTS, Object
from vljepa_jax.data.world.phrases import HELD_OUT_TEMPLATES, SEEN_TEMPLATES, Template
from vljepa_jax.data.world.phrases import MOTIONS as WORDINGS

Event = tuple[Object, str]  # who does what

CAPTION_QUERY = "Describe this video in one sentence."  # the paper's, Figure 2
STATE_QUERY = "What happened between the two images?"
COUNT_LABELS = ("one", "two", "three", "four", "five")
YES_NO_LABELS = ("yes", "no")
_DRAWS = 50  # of a sentence that is wanted, until there seem to be no others


def label_sets() -> dict[str, tuple[Label, ...]]:
    """All label sets; their texts are exactly the answers of training."""
    return {
        "objects": tuple(Label(thing.name, (thing.name,)) for thing in OBJECTS),
        "motions": tuple(Label(motion, (WORDINGS[motion].label,)) for motion in MOTIONS),
        "counts": tuple(Label(str(n), (text,)) for n, text in enumerate(COUNT_LABELS, 1)),
        "yes_no": tuple(Label(text, (text,)) for text in YES_NO_LABELS),
        "colours": tuple(Label(colour, (colour,)) for colour in COLOURS),
    }


# ---------------------------------------------------------------------------------------------
# Captions
# ---------------------------------------------------------------------------------------------
def captions(
    events: Sequence[Event],
    rng: np.random.Generator,
    count: int,
    *,
    held_out: bool = False,
    wordings: int = 0,
) -> tuple[str, ...]:
    """Draws ``count`` different sentences of one meaning, or as many as ``wordings`` allows.

    Args:
        held_out: uses phrasings that training never hears, of the sentence and of every motion;
            else only those that it hears.
        wordings: takes the first so many ways to say the sentence, and each motion; 0 for all.
    """
    templates = (HELD_OUT_TEMPLATES if held_out else SEEN_TEMPLATES)[: wordings or None]
    texts: dict[str, None] = {}
    for _ in range(_DRAWS * count):
        template = templates[rng.integers(len(templates))]
        order = [events[index] for index in rng.permutation(len(events))]
        texts[_sentence(template, order, rng, held_out, wordings)] = None
        if len(texts) == count:
            break
    return tuple(texts)


def _sentence(
    template: Template,
    events: Sequence[Event],
    rng: np.random.Generator,
    held_out: bool,
    wordings: int,
) -> str:
    parts = []
    for thing, motion in events:
        wording = WORDINGS[motion]
        phrases = (wording.held_out if held_out else wording.seen)[: wordings or None]
        phrase = phrases[rng.integers(len(phrases))]
        parts.append(
            template.event.format(thing=thing.indefinite, verb=phrase.verb, gerund=phrase.gerund)
        )
    joined = ", ".join(parts[:-1]) + template.last + parts[-1] if len(parts) > 1 else parts[0]
    sentence = template.sentence.format(events=joined)
    return sentence[0].upper() + sentence[1:]


# ---------------------------------------------------------------------------------------------
# Questions
# ---------------------------------------------------------------------------------------------
def ask_motion(thing: Object, rng: np.random.Generator) -> str:
    """Asks how a named object moves."""
    forms = ("How does {} move?", "What does {} do?", "What is {} doing?")
    return forms[rng.integers(len(forms))].format(thing.definite)


def ask_what(motion: str, rng: np.random.Generator) -> str:
    """Asks what makes a named motion."""
    seen = WORDINGS[motion].seen
    return f"What is {seen[rng.integers(len(seen))].gerund}?"


def ask_object(motion: str | None, rng: np.random.Generator) -> str:
    """Asks which object there is, or which one makes a named motion."""
    if motion is None:
        forms = ("Which object is shown?", "Which object is this?")
        return forms[rng.integers(len(forms))]
    seen = WORDINGS[motion].seen
    return f"Which object {seen[rng.integers(len(seen))].verb}?"


def ask_count(rng: np.random.Generator) -> str:
    """Asks how many objects there are."""
    forms = ("How many objects are there?", "How many things can we see?")
    return forms[rng.integers(len(forms))]


def ask_presence(thing: Object, rng: np.random.Generator) -> str:
    """Asks whether a named object is there."""
    forms = ("Is there {}?", "Is {} in the video?", "Can we see {}?")
    return forms[rng.integers(len(forms))].format(thing.indefinite)


def ask_colour(thing: Object) -> str:
    """Asks for the colour of the only object of its kind."""
    return f"What colour is the {thing.noun}?"


def ask_side(side: str, one: Object, other: Object) -> str:
    """Asks which of two named objects is on a side, "left" or "right"."""
    return f"Which is on the {side}, {one.definite} or {other.definite}?"


# ---------------------------------------------------------------------------------------------
# Places
# ---------------------------------------------------------------------------------------------
def ask_layout(one: Object, other: Object, rng: np.random.Generator) -> str:
    """Asks where two named objects are."""
    first, second = (one, other) if rng.random() < 0.5 else (other, one)
    return f"Where are {first.definite} and {second.definite}?"


def layouts(left: Object, right: Object) -> tuple[str, ...]:
    """All ways to say that one object is left of another; the second half names it last."""
    texts = (
        f"{left.definite} is to the left of {right.definite}.",
        f"{left.definite} is left of {right.definite}.",
        f"{right.definite} is to the right of {left.definite}.",
        f"{right.definite} is right of {left.definite}.",
    )
    return tuple(text[0].upper() + text[1:] for text in texts)
