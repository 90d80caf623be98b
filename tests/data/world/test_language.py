import re

import numpy as np
import pytest

from vljepa_jax.data.world import language, phrases
from vljepa_jax.data.world.motions import MOTIONS
from vljepa_jax.data.world.objects import BY_NAME, COLOURS, OBJECTS

DOG, OWL, HEART = (BY_NAME[name] for name in ("dog", "owl", "red heart"))


def wordings(held_out):
    return [
        form
        for wording in phrases.MOTIONS.values()
        for phrase in (wording.held_out if held_out else wording.seen)
        for form in (phrase.verb, phrase.gerund)
    ]


def says(text, phrase):
    return re.search(rf"\b{re.escape(phrase)}\b", text) is not None


def test_every_motion_has_six_phrasings_and_some_held_out():
    assert set(phrases.MOTIONS) == set(MOTIONS)
    for wording in phrases.MOTIONS.values():
        assert len({phrase.verb for phrase in wording.seen}) >= 6
        assert len({phrase.verb for phrase in wording.held_out}) >= 2


def test_a_phrase_says_one_motion_only():
    verbs = [p.verb for w in phrases.MOTIONS.values() for p in (*w.seen, *w.held_out)]
    assert len(verbs) == len(set(verbs))


def test_no_heard_phrase_contains_a_held_out_one():
    for heard in wordings(held_out=False):
        assert not [phrase for phrase in wordings(held_out=True) if says(heard, phrase)]


@pytest.mark.parametrize("held_out", [False, True])
def test_captions_are_distinct_sentences_that_name_every_event(held_out):
    events = [(DOG, "spin"), (OWL, "left"), (HEART, "still")]
    for seed in range(50):
        texts = language.captions(events, np.random.default_rng(seed), 4, held_out=held_out)
        assert len(set(texts)) == 4
        for text in texts:
            assert text[0].isupper()
            assert text.endswith(".")
            for thing, motion in events:
                assert thing.indefinite in text.lower()
                wording = phrases.MOTIONS[motion]
                chosen = wording.held_out if held_out else wording.seen
                assert any(says(text, p.verb) or says(text, p.gerund) for p in chosen)


def test_held_out_captions_are_never_heard_and_the_reverse():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        events = [(DOG, str(rng.choice(MOTIONS)))]
        heard = language.captions(events, rng, 4)
        unheard = language.captions(events, rng, 4, held_out=True)
        assert not any(says(text, p) for text in heard for p in wordings(held_out=True))
        assert all(any(says(text, p) for p in wordings(held_out=True)) for text in unheard)
        openings = [template.sentence.split("{")[0] for template in phrases.HELD_OUT_TEMPLATES]
        assert not any(text.startswith(tuple(openings)) for text in heard)
        assert all(text.startswith(tuple(openings)) for text in unheard)


def test_sentences_of_one_and_of_many():
    rng = np.random.default_rng(0)
    one = {text for _ in range(60) for text in language.captions([(OWL, "spin")], rng, 1)}
    assert {"An owl spins.", "An owl is spinning.", "There is an owl that spins."} <= one
    two = {
        text
        for _ in range(4000)
        for text in language.captions([(OWL, "spin"), (DOG, "left")], rng, 1)
    }
    assert "An owl spins and a dog moves left." in two
    assert "In this clip a dog goes left while an owl rotates." in two


def test_labels_are_the_answers_and_all_different():
    labels = language.label_sets()
    assert set(labels) == {"objects", "motions", "counts", "yes_no", "colours"}
    assert [label.id for label in labels["objects"]] == [thing.name for thing in OBJECTS]
    assert [label.id for label in labels["motions"]] == list(MOTIONS)
    assert [label.id for label in labels["colours"]] == list(COLOURS)
    assert labels["motions"][MOTIONS.index("left")].texts == ("moves left",)
    for entries in labels.values():
        assert len({label.texts for label in entries}) == len(entries)


def test_layouts_agree_with_each_other():
    for text in language.layouts(DOG, OWL):
        first, side, second = re.fullmatch(
            r"The (\w+) is (?:to the )?(left|right) of the (\w+)\.", text
        ).groups()
        assert (first, second) == (("dog", "owl") if side == "left" else ("owl", "dog"))


def test_wordings_bound_the_ways_to_say_a_thing():
    """One way: the first sentence and the labels. Two: two sentences, two phrases each motion."""
    said = {
        count: {
            text
            for seed in range(300)
            for text in language.captions(
                [(DOG, "grow")], np.random.default_rng(seed), 4, wordings=count
            )
        }
        for count in (1, 2, 0)
    }
    (only,) = said[1]
    assert only == f"{DOG.indefinite} {phrases.MOTIONS['grow'].label}.".capitalize()
    assert len(said[2]) == 4
    assert said[1] < said[2] < said[0]
    assert len(said[0]) == len(phrases.SEEN_TEMPLATES) * len(phrases.MOTIONS["grow"].seen)
