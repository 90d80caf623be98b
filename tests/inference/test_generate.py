"""Generation against plain loops without a cache, and beam search against all texts there are."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.tiny import tiny_y_decoder_config
from vljepa_jax.inference.generate import beam_search, greedy, nucleus, sample
from vljepa_jax.models.y_decoder import YDecoder

END = 2


def make_decoder(vocabulary, seed=3):
    """A decoder with random weights, large enough that its texts differ, and some of them end."""
    config = tiny_y_decoder_config().model
    llama = dataclasses.replace(config.y_decoder, vocab_size=vocabulary)
    model = YDecoder(dataclasses.replace(config, y_decoder=llama))
    size = config.vljepa.embedding_size
    one = jnp.zeros((1, 2), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size)), one, one > 0)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), shapes)
    params = params["params"]
    table = params["y_token_embedding"]["embedding"]
    params["y_token_embedding"]["embedding"] = table.at[END].multiply(2)
    embeddings = rng.standard_normal((6, size)).astype(np.float32)
    return model, params, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def decoder():
    return make_decoder(vocabulary=12)


def whole_pass(decoder):
    """(rows, texts) -> log-probabilities [b, 8, v] of every token, without a cache.

    What follows a text has no influence on the logits up to its end (as the first test shows).
    """
    model, params, embeddings = decoder

    @jax.jit
    def logits(embeddings, tokens):
        every = jnp.ones(tokens.shape, bool)
        return jax.nn.log_softmax(model.apply({"params": params}, embeddings, tokens, every))

    def apply(rows, texts):
        tokens = [[*text, *[END] * (8 - len(text))] for text in texts]
        return np.asarray(logits(embeddings[rows], np.asarray(tokens, np.int32)))

    return apply


def until_end(tokens):
    """The tokens up to the end token, which must fill what follows."""
    tokens = list(map(int, tokens))
    if END in tokens:
        first = tokens.index(END)
        assert set(tokens[first:]) == {END}
        return tokens[: first + 1]
    return tokens


def test_no_token_is_seen_by_those_before_it(decoder):
    """By gradients: the logits of token i depend on the embedding and on tokens 0 .. i - 1."""
    model, params, embeddings = decoder
    table = params["y_token_embedding"]["embedding"]
    tokens = jnp.arange(3, 9)[None]  # different words: each row of the table is one position

    def logits(table, embedding):
        changed = params | {"y_token_embedding": {"embedding": table}}
        hidden = model.apply({"params": changed}, embedding, tokens, tokens > 0)
        # The words of the text predict nothing here: only what was read of them counts.
        return hidden[0, :, END]

    by_word, by_embedding = jax.jacobian(logits, argnums=(0, 1))(table, embeddings[:1])
    read = np.abs(by_word[:, 3:9]).sum(axis=-1) > 0
    np.testing.assert_array_equal(read, np.tri(6, k=-1, dtype=bool))
    assert (np.abs(by_embedding).sum(axis=(1, 2)) > 0).all()


def test_greedy_with_a_cache_is_greedy_without(decoder):
    model, params, embeddings = decoder
    logits = whole_pass(decoder)
    written = greedy(model, params, embeddings, 8, END)
    lengths = set()
    for row in range(len(embeddings)):
        text, total = [], 0.0
        while len(text) < 8 and END not in text:
            scores = logits([row], [text])[0, len(text)]
            text.append(int(scores.argmax()))
            total += scores.max()
        assert until_end(written.tokens[row]) == text
        assert float(written.log_probability[row]) == pytest.approx(total, abs=1e-4)
        lengths.add(len(text))
    assert len(lengths) > 1  # some end early, while others go on


def test_a_text_does_not_depend_on_the_others(decoder):
    model, params, embeddings = decoder
    together = greedy(model, params, embeddings, 8, END)
    for row in range(len(embeddings)):
        alone = greedy(model, params, embeddings[row : row + 1], 8, END)
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[row])


def all_texts(vocabulary, longest):
    """Every text: those that end with the end token, and those that are cut."""
    words = [token for token in range(vocabulary) if token != END]
    for length in range(longest):
        for body in itertools.product(words, repeat=length):
            yield [*body, END]
    yield from map(list, itertools.product(words, repeat=longest))


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all_texts(length_penalty):
    decoder = make_decoder(vocabulary=4)
    model, params, embeddings = decoder
    texts = list(all_texts(4, 3))
    assert len(texts) == 1 + 3 + 9 + 27
    logits = whole_pass(decoder)
    found = beam_search(model, params, embeddings, 3, END, len(texts), length_penalty)
    for row in range(len(embeddings)):
        scores = logits([row] * len(texts), texts)
        totals = np.array(
            [
                sum(s[i, t] for i, t in enumerate(text))
                for s, text in zip(scores, texts, strict=True)
            ]
        )
        lengths = np.array([len(text) for text in texts])
        best = int(np.argmax(totals / lengths**length_penalty))
        assert until_end(found.tokens[row]) == texts[best]
        assert float(found.log_probability[row]) == pytest.approx(totals[best], abs=1e-4)


def beam_by_hand(score, width, longest, length_penalty):
    """Beam search over lists."""
    beams = [([], 0.0)]
    for _ in range(longest):
        longer = []
        for text, total in beams:
            if END in text:
                longer.append((text, total))
                continue
            scores = score(text)
            longer += [([*text, token], total + scores[token]) for token in range(len(scores))]
        beams = sorted(longer, key=lambda beam: -beam[1])[:width]
    return max(beams, key=lambda beam: beam[1] / len(beam[0]) ** length_penalty)


def test_a_narrow_beam_is_beam_search(decoder):
    model, params, embeddings = decoder
    logits = whole_pass(decoder)
    found = beam_search(model, params, embeddings, 6, END, 3, 0.7)
    plain = greedy(model, params, embeddings, 6, END)
    for row in range(len(embeddings)):
        text, total = beam_by_hand(
            lambda text, row=row: logits([row], [text])[0, len(text)], 3, 6, 0.7
        )
        assert until_end(found.tokens[row]) == text
        assert float(found.log_probability[row]) == pytest.approx(total, abs=1e-4)
    assert (np.asarray(found.tokens) != np.asarray(plain.tokens)).any()  # else nothing is tested
    one = beam_search(model, params, embeddings, 6, END, 1, 0.7)
    np.testing.assert_array_equal(one.tokens, plain.tokens)


def test_the_nucleus_by_hand():
    probabilities = np.array([[0.1, 0.5, 0.15, 0.25], [0.97, 0.01, 0.01, 0.01]], np.float32)
    logits = jnp.log(probabilities)
    for top_p, kept in ((0.4, [[1], [0]]), (0.7, [[1, 3], [0]]), (0.8, [[1, 2, 3], [0]])):
        found = np.isfinite(nucleus(logits, top_p))
        assert [np.flatnonzero(row).tolist() for row in found] == kept
    assert np.isfinite(nucleus(logits, 1.0)).all()
    assert np.isfinite(nucleus(logits, 0.0)).sum() == 2  # the most probable one always


def test_samples_follow_the_probabilities(decoder):
    """Of 4,000 first tokens, within four standard errors; a small nucleus is greedy."""
    model, params, embeddings = decoder
    many = np.repeat(embeddings[:1], 4000, axis=0)
    first = sample(model, params, many, 1, END, jax.random.key(0), 1.0, 2.0).tokens[:, 0]
    scores = whole_pass(decoder)([0], [[]])[0, 0].astype(np.float64) / 2
    expected = np.exp(scores) / np.exp(scores).sum()
    shares = np.bincount(first, minlength=12) / 4000
    assert (np.abs(shares - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000) + 1e-3).all()
    sure = sample(model, params, embeddings, 8, END, jax.random.key(0), 1e-6, 1.0)
    np.testing.assert_array_equal(sure.tokens, greedy(model, params, embeddings, 8, END).tokens)
