import numpy as np
import pytest

from vljepa_jax.evals import metrics


def test_rank_counts_the_wrong_items_before_the_best_right_one():
    scores = np.array([0.1, 0.9, 0.5, 0.7])
    assert metrics.rank(scores, {1}) == 0
    assert metrics.rank(scores, {3}) == 1
    assert metrics.rank(scores, {0}) == 3
    # 2 and 3 are both right: the better one, 3, has only 1 before it
    assert metrics.rank(scores, {2, 3}) == 1
    assert metrics.rank(scores, set()) is None


def test_ties_and_nan_never_help():
    assert metrics.rank(np.array([0.5, 0.5, 0.5]), {0}) == 2
    assert metrics.rank(np.array([0.5, np.nan, 0.1]), {0}) == 1
    assert metrics.rank(np.array([np.nan, 0.2, 0.1]), {0}) == 2


def test_in_top_k_with_a_missing_gold_answer():
    ranks = [0, 1, 4, 5, None]
    np.testing.assert_array_equal(metrics.in_top_k(ranks, 1), [True, False, False, False, False])
    np.testing.assert_array_equal(metrics.in_top_k(ranks, 5), [True, True, True, False, False])


def test_identical_captions_share_their_videos():
    positives = metrics.shared_positives(["a dog", "a cat", "a dog"], [0, 1, 2])
    assert positives == [{0, 2}, {1}, {0, 2}]
    # "a dog" is nearest to video 2, which is right for the caption of video 0 as well.
    scores = np.array([0.6, 0.0, 1.0])
    assert metrics.rank(scores, positives[0]) == 0
    assert metrics.rank(scores, {0}) == 1  # what it would be without sharing


def test_triplets_are_strict():
    p1, p2 = np.array([1.0, 0.0]), np.array([0.8, 0.6])
    assert metrics.triplet_is_correct(p1, p2, np.array([0.0, -1.0]))
    # sim(p2, n) = 0.8 * 0.6 + 0.6 * 0.8 = 0.96 > 0.8, though sim(p1, n) = 0.6
    assert not metrics.triplet_is_correct(p1, p2, np.array([0.6, 0.8]))
    assert not metrics.triplet_is_correct(p2, p1, np.array([0.6, 0.8]))
    # negative equal to a paraphrase: 0.8 against 0.8 and 1
    assert not metrics.triplet_is_correct(p1, p2, p1)
    same = np.array([1.0, 0.0])
    assert not metrics.triplet_is_correct(same, same, same)


def test_wilson_interval():
    # By hand for 8 of 10, z = 1.959964: centre (0.8 + z2/20) / (1 + z2/10) = 0.716739,
    # half width z / (1 + z2/10) * sqrt(0.8 * 0.2 / 10 + z2 / 400) = 0.226577
    low, high = metrics.wilson_interval(8, 10)
    assert low == pytest.approx(0.490162, abs=1e-5)
    assert high == pytest.approx(0.943318, abs=1e-5)
    assert metrics.wilson_interval(0, 10)[0] == 0


def test_proportion():
    metric = metrics.proportion([True, True, False, True], chance=0.25)
    assert (metric.value, metric.chance, metric.n) == (0.75, 0.25, 4)
    assert metric.interval == metrics.wilson_interval(3, 4)
    with pytest.raises(ValueError, match="at least one example"):
        metrics.proportion([], chance=0)


def test_choice_chance_is_the_better_of_uniform_and_majority():
    # uniform: (1/2 + 1/2 + 1/4 + 1/4) / 4 = 0.375; majority "yes": 2 of 4 = 0.5
    candidates = [("yes", "no"), ("no", "yes"), tuple("abcd"), tuple("abcd")]
    assert metrics.choice_chance(candidates, [0, 1, 0, 1]) == pytest.approx(0.5)
    # now every answer is right once: 1/4 < 0.375
    assert metrics.choice_chance(candidates, [0, 0, 0, 1]) == pytest.approx(0.375)
    # a missing gold answer is wrong for a guesser too
    assert metrics.choice_chance([("a", "b"), ("a", "b")], [0, None]) == pytest.approx(0.5)
    assert metrics.choice_chance([("a", "b"), ("a", "b")], [None, None]) == 0


def test_recall_chance():
    assert metrics.recall_chance([{0}, {1}], gallery_size=10, k=1) == pytest.approx(0.1)
    assert metrics.recall_chance([{0}, {1}], gallery_size=10, k=5) == pytest.approx(0.5)
    # two right among four, two drawn: 1 - (2/4) * (1/3) = 5/6
    assert metrics.recall_chance([{0, 1}], gallery_size=4, k=2) == pytest.approx(5 / 6)
    assert metrics.recall_chance([{0}], gallery_size=3, k=5) == pytest.approx(1)
