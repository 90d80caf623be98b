import numpy as np
import pytest

from vljepa_jax.data.world import language, pairs
from vljepa_jax.data.world.objects import COLOURS
from vljepa_jax.data.world.phrases import HELD_OUT_TEMPLATES, MOTIONS
from vljepa_jax.data.world.triplets import SUBSETS, draw_training_triplet, draw_triplet


def triplets(subset, count=100, *, unseen=False):
    for seed in range(count):
        yield draw_triplet("x", subset, np.random.default_rng(seed), unseen=unseen)


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("subset", SUBSETS)
def test_a_triplet_is_three_different_texts_without_media(subset, unseen):
    for triplet in triplets(subset, unseen=unseen):
        assert len(set(triplet.texts)) == 3
        assert triplet.inputs == ()
        assert triplet.tags["subset"] == subset
        assert not triplet.trainable


@pytest.mark.parametrize("subset", SUBSETS)
def test_the_negative_is_nearer_in_words_than_the_paraphrase(subset):
    nearer = 0
    for first, second, negative in (triplet.texts for triplet in triplets(subset)):
        words, other, wrong = (set(text.lower().split()) for text in (first, second, negative))
        nearer += len(words ^ wrong) <= len(words ^ other)
    assert nearer > 90


def test_an_attribute_negative_changes_colours_alone():
    for triplet in triplets("attribute"):
        first, negative = (triplet.texts[index].lower().split() for index in (0, 2))
        differing = {
            word
            for pair in zip(first, negative, strict=True)
            if pair[0] != pair[1]
            for word in pair
        }
        assert differing - {"a", "an"} <= set(COLOURS)


def test_a_relation_negative_has_the_same_words_or_swaps_roles():
    layouts = 0
    for triplet in triplets("relation"):
        first, _, negative = triplet.texts
        if " of the " in first:
            layouts += 1
            clean = (sorted(text.lower().strip(".").split()) for text in (first, negative))
            assert len(set(map(tuple, clean))) == 1
    assert 20 < layouts < 80


def training_triplets(count=400):
    for seed in range(count):
        yield draw_training_triplet("x", np.random.default_rng(seed))


def test_training_triplets_are_different_texts_of_every_kind():
    kinds = set()
    for triplet in training_triplets():
        assert len(set(triplet.texts)) == 3
        assert triplet.inputs == ()
        kinds.add(triplet.tags["subset"])
    assert kinds == {"answer", "relation", "scene"}


def test_training_triplets_say_no_held_out_pair_or_phrase(monkeypatch):
    said = []

    def spy(events, *args, **kwargs):
        said.extend((thing.name, motion) for thing, motion in events)
        return captions(events, *args, **kwargs)

    captions = language.captions
    monkeypatch.setattr(language, "captions", spy)
    texts = [text for triplet in training_triplets() for text in triplet.texts]
    assert len(said) > 1000
    assert not pairs.held_out() & set(said)
    unheard = [phrase.gerund for wording in MOTIONS.values() for phrase in wording.held_out]
    unheard += [template.sentence.split("{")[0] for template in HELD_OUT_TEMPLATES]
    assert not [text for text in texts for words in unheard if words in text]
