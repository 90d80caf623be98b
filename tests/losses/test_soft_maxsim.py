import jax
import numpy as np
import pytest

from vljepa_jax import losses

ROWS, TOKENS, TEXTS, WIDTH = 5, 4, 3, 6


@pytest.fixture
def case():
    """Two rows share a text; one row has fewer texts than there are places."""
    rng = np.random.default_rng(0)

    def units(*shape):
        vectors = rng.normal(size=shape)
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    tokens, texts = units(ROWS, TOKENS, WIDTH), units(ROWS, TEXTS, WIDTH)
    text_id = np.arange(ROWS * TEXTS).reshape(ROWS, TEXTS)
    text_id[3, 1], texts[3, 1] = text_id[0, 2], texts[0, 2]
    there = np.ones((ROWS, TEXTS), bool)
    there[1, 2] = False
    text_id[1, 2] = text_id[4, 0]  # padding is nobody's text
    return [np.float32(tokens), np.float32(texts), there, np.uint32(text_id), np.float32(7.0)]


def by_hand(tokens, texts, there, text_id, scale):
    """The two directions one text at a time, in float64."""
    tokens, texts = np.float64(tokens), np.float64(texts)

    def like(row, other, place):
        return np.log(np.mean(np.exp(scale * tokens[row] @ texts[other, place])))

    def said(row, other, place):
        return text_id[other, place] in text_id[row][there[row]]

    places = [(int(row), int(place)) for row, place in np.argwhere(there)]
    nll, to_text, to_row = [], [], []
    for row, place in places:
        own = like(row, row, place)
        wrong = [like(row, *other) for other in places if not said(row, *other)]
        nll.append(np.log(np.exp(own) + np.exp(wrong).sum()) - own)
        to_text.append(own > max(wrong))
        rows = [r for r in range(ROWS) if r == row or not said(r, row, place)]
        scores = [like(r, row, place) for r in rows]
        nll.append(np.log(np.exp(scores).sum()) - own)
        to_row.append(own >= max(scores))
    return np.mean(nll), np.mean(to_text), np.mean(to_row)


@pytest.mark.parametrize("at_once", [2**24, 100, 1])
def test_the_formula_text_by_text(case, at_once):
    """In float64, 1e-5, and its slopes, 1e-4; the same whatever is held at a time."""
    loss, metrics = losses.soft_maxsim(*case, at_once=at_once)
    expected, to_text, to_row = by_hand(*case)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["clauses/accuracy/to_clause"]) == pytest.approx(to_text)
    assert float(metrics["clauses/accuracy/to_clip"]) == pytest.approx(to_row)
    assert 0 < to_text < 1 or 0 < to_row < 1

    def loss_of(tokens, texts, scale, at_once):
        return losses.soft_maxsim(tokens, texts, *case[2:4], scale, at_once=at_once)[0]

    tokens, texts, _, _, scale = case
    gradients = jax.grad(loss_of, argnums=(0, 1, 2))
    found = gradients(tokens, texts, scale, at_once)
    for one, other in zip(found, gradients(tokens, texts, scale, 2**24), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    step = 1e-4
    for place in np.ndindex(2, 2, 2):
        moved = [tokens.astype(np.float64), tokens.astype(np.float64)]
        for sign, array in zip((1, -1), moved, strict=True):
            array[place] += sign * step
        slope = np.subtract(*(by_hand(array, *case[1:])[0] for array in moved)) / (2 * step)
        assert float(found[0][place]) == pytest.approx(slope, abs=1e-4)


def test_what_two_rows_say_is_no_negative(case):
    """By hand: row 3 tells row 0's text, too; as its own alone the loss would be larger."""
    alone = [*case[:3], np.arange(ROWS * TEXTS, dtype=np.uint32).reshape(ROWS, TEXTS), case[4]]
    assert losses.soft_maxsim(*alone)[0] > losses.soft_maxsim(*case)[0]


def test_a_row_alone_has_nothing_to_tell_it_from(case):
    tokens, texts, there, text_id, scale = case

    def loss_of(tokens):
        return losses.soft_maxsim(tokens, texts[:1], there[:1], text_id[:1], scale)[0]

    loss, gradient = jax.value_and_grad(loss_of)(tokens[:1])
    assert float(loss) == 0
    np.testing.assert_array_equal(gradient, 0)


def test_rows_without_texts_do_not_count(case):
    tokens, texts, there, text_id, scale = case
    there[2] = False
    fewer = [np.delete(array, 2, axis=0) for array in (texts, there, text_id)]
    # Its tokens are still what the other rows' texts are told apart from.
    with_it = losses.soft_maxsim(*case)[0]
    without = losses.soft_maxsim(np.delete(tokens, 2, axis=0), *fewer, scale)[0]
    assert float(with_it) == pytest.approx(by_hand(*case)[0], rel=1e-5)
    assert with_it > without
