"""CIDEr-D by hand, and against values that pycocoevalcap gave (make test-parity asks it live)."""

import math

import numpy as np
import pytest

from vljepa_jax.evals.captions import CiderD, tokenise
from vljepa_jax.evals.metrics import mean_score


def words(text):
    return text.split()


def test_the_rule_of_tokens():
    assert tokenise("A RED-car, it's 3 o’clock_here!") == [
        *("a", "red", "car", "it's", "3", "o'clock", "here")
    ]
    assert tokenise("'quoted' café") == ["quoted", "café"]
    assert tokenise(" .,! ") == []


def cider_d(candidates, references):
    return CiderD(references)(candidates)


def test_by_hand():
    """Two pairs. Every n-gram of the references is in one document: its weight is ln 2 per count,
    which cancels. "a b" against "a c": one of two unigrams, no bigram: cosine 1/2 and 0, none of
    three and four words. Mean over n: 1/8; x 10 x 100."""
    scores = cider_d([words("a b"), words("x y z w")], [[words("a c")], [words("x y z w")]])
    np.testing.assert_allclose(scores, [125, 1000], rtol=1e-12)
    # One bigram more than the reference: the same unigrams, clipped; penalty exp(-1 / 72).
    scores = cider_d([words("a a"), words("x")], [[words("a")], [words("x")]])
    assert scores[0] == pytest.approx(1000 * (1 * 1 / (2 * 1)) / 4 * math.exp(-1 / 72))
    # Of several references the mean is taken.
    scores = cider_d([words("a b"), words("q")], [[words("a b"), words("c d")], [words("q r")]])
    assert scores[0] == pytest.approx(1000 * (1 + 1 + 0 + 0) / 4 / 2)


def test_what_is_in_all_documents_weighs_nothing():
    assert cider_d([words("a b c d")], [[words("a b c d")]])[0] == 0  # one pair alone
    # Texts of one word have no longer n-grams, which count as 0 of the four.
    singles = [[words(text)] for text in ("dog", "cat", "bird")]
    np.testing.assert_allclose(cider_d([words(t) for t in ("dog", "cat", "bird")], singles), 250)
    common = [[words("the dog")], [words("the cat")]]
    scores = cider_d([words("the"), words("the cat")], common)
    assert scores[0] == 0
    assert scores[1] == pytest.approx(1000 * (1 + 1) / 4)


GOLDEN_CANDIDATES = (
    "a red car drives to the left",
    "two cats and a dog that spins",
    "the video shows a book growing",
    "",
    "a a a a car",
)
GOLDEN_REFERENCES = (
    ("a red car moves to the left", "there is a car that drives left"),
    ("a dog that spins and two cats", "two cats sit while a dog spins", "a dog spins"),
    ("the video shows a book growing",),
    ("a lamp fades away", "a light goes out"),
    ("a car and a bus", "a blue car"),
)
# pycocoevalcap 1.2, Cider().compute_score(...)[1] * 100
GOLDEN_SCORES = (293.94154070116474, 346.9849942376279, 1000.0, 0.0, 121.21179269591514)


def test_pycocoevalcap_gave_the_same():
    found = cider_d(
        [words(text) for text in GOLDEN_CANDIDATES],
        [[words(text) for text in group] for group in GOLDEN_REFERENCES],
    )
    np.testing.assert_allclose(found, GOLDEN_SCORES, rtol=1e-10)


def test_bad_input_is_refused():
    for references in ([], [[]]):
        with pytest.raises(ValueError, match="at least one reference"):
            CiderD(references)
    with pytest.raises(ValueError, match="1 texts and 2 sets"):
        cider_d([["a"]], [[["a"]], [["b"]]])


def test_the_interval_of_a_mean():
    """Against the normal approximation, to a tenth of its width."""
    scores = np.random.default_rng(1).exponential(50, 400)
    metric = mean_score(scores, 3.0, "cider")
    half = 1.96 * scores.std() / 20
    assert (metric.value, metric.chance, metric.n, metric.unit) == (
        pytest.approx(scores.mean()),
        3.0,
        400,
        "cider",
    )
    expected = (metric.value - half, metric.value + half)
    np.testing.assert_allclose(metric.interval, expected, atol=0.2 * half)
    assert mean_score(scores, 3.0, "cider") == metric  # the same every time
