"""Heads in closed form, against scikit-learn's, and what they are for."""

import collections
import dataclasses

import jax
import numpy as np
import pytest
from rich.console import Console
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from tests.helpers.tiny import tiny_train_config
from vljepa_jax.config import ConfigError
from vljepa_jax.convert.published import convert_checkpoint
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.data.pipeline import TrainPipeline, target_shares
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.models.vljepa import VLJEPA
from vljepa_jax.objectives import make_objective
from vljepa_jax.training.head_init import RIDGE, align_heads, drawn, heads


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("size", [3, 7])
def test_heads_are_principal_directions_and_a_ridge_regression(size):
    """scikit-learn's, 1e-5: the same subspace, and the same map into it; texts count as often as
    they are drawn."""
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(200, 5)) * np.array([3, 1, 1, 0.5, 0.1])
    words = embeddings @ rng.normal(size=(5, 7)) + 0.3 * rng.normal(size=(200, 7)) + 2
    weights = rng.integers(1, 5, 200)
    predictor_head, y_head = heads(words, embeddings, weights, size)
    assert predictor_head.shape == (7, size)
    assert y_head.shape == (5, size)

    words, embeddings = np.repeat(words, weights, 0), np.repeat(embeddings, weights, 0)
    places = unit(words - words.mean(axis=0))
    np.testing.assert_allclose(predictor_head.T @ predictor_head, np.eye(size), atol=1e-5)
    # Not PCA's own centre: unit vectors around the mean.
    both = np.concatenate([places, -places])
    expected = PCA(size).fit(both).components_
    np.testing.assert_allclose(predictor_head @ predictor_head.T, expected.T @ expected, atol=1e-5)
    given = unit(embeddings)
    ridge = Ridge(alpha=RIDGE * (given**2).sum() / 5, fit_intercept=False)
    ridge.fit(given, places @ predictor_head)
    np.testing.assert_allclose(y_head, ridge.coef_.T, atol=1e-5)


@pytest.fixture(scope="module")
def config():
    config = tiny_train_config()
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, embedding_size=config.model.predictor.hidden_size),
    )


def test_targets_are_those_of_the_training_examples(config):
    reader = TrainPipeline(config)._reader._sources[0]
    expected = {
        text
        for index in map(int, reader.records)
        for annotation in reader.usable(index)
        for text in (annotation.texts or reader.dataset.answer(annotation))
    }
    shares = target_shares(config)
    assert len(shares) > 100
    assert set(shares) == expected
    assert sum(shares.values()) == pytest.approx(1)


def test_target_shares_are_how_often_training_draws_a_text(config):
    """Of 4,000 draws, a common answer's share within five standard errors."""
    reader = TrainPipeline(config)._reader
    targets = collections.Counter()
    for index in range(4_000):
        source, place = reader._sources[0], reader.order[index][1]
        rng = np.random.default_rng(index)
        usable = source.usable(int(source.records[place]))
        row = reader._rows.draw(usable, source.dataset, source.choose, rng)
        targets[row.content[1]] += 1
    shares = target_shares(config)
    for text in ("yes", "no", "one"):
        error = np.sqrt(shares[text] * (1 - shares[text]) / 4_000)
        assert 0.01 < shares[text] < 0.3
        assert abs(targets[text] / 4_000 - shares[text]) < 5 * error


def test_drawn_texts_are_evenly_spread():
    texts, times = drawn({"a": 5.0, "b": 0.1, "c": 2.0, "d": 0.9}, 8)  # points 0.5, 1.5, ... 7.5
    assert dict(zip(texts, times, strict=True)) == {"a": 5, "c": 2, "d": 1}


def test_aligned_texts_lie_where_their_words_do(config):
    params, _ = make_objective(config).init(jax.random.key(0))
    texts = list(target_shares(config))[:300]
    tokenizer = Tokenizer(config.data.text.query_tokenizer)
    table = np.asarray(params["token_embedding"]["embedding"])
    lengths = [tokenizer.encode([t], 64)[1].sum() - 1 for t in texts]
    words = np.stack(
        [
            table[tokenizer.encode([t], 64)[0][0][1 : 1 + n]].mean(axis=0)
            for t, n in zip(texts, lengths, strict=True)
        ]
    )
    tokens, mask = Tokenizer(config.data.text.target_tokenizer).encode(
        texts, config.data.text.target_length
    )

    def likeness(params):
        embedded = VLJEPA(config.model).apply(
            {"params": params}, tokens, mask, method="encode_text"
        )
        places = unit(words - words.mean(axis=0)) @ params["predictor_head"]["kernel"]
        return np.mean(np.sum(np.asarray(embedded) * unit(places), axis=1))

    aligned = params | align_heads(config, params)
    assert {name for name in aligned if aligned[name] is not params[name]} == {
        "predictor_head",
        "y_head",
    }
    assert likeness(aligned) > 0.4
    assert abs(likeness(params)) < 0.2


def test_a_space_larger_than_the_words_is_refused(config):
    model = dataclasses.replace(config.model, embedding_size=config.model.predictor.hidden_size + 1)
    with pytest.raises(ConfigError, match="model.embedding_size"):
        align_heads(dataclasses.replace(config, model=model), {})


def test_what_has_no_two_texts_is_not_aligned(config, tmp_path):
    with pytest.raises(ConversionError, match="align"):
        convert_checkpoint(
            config, {"predictor": tmp_path}, tmp_path / "run", Console(quiet=True), align=True
        )
