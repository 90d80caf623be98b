import numpy as np
import pytest

from vljepa_jax.data.world.objects import COLOURS
from vljepa_jax.data.world.triplets import SUBSETS, draw_triplet


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
