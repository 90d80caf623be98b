"""Pretraining of the text backbones: data, losses, and that training lowers them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_text_config

from vljepa_jax.config import ConfigError
from vljepa_jax.data.pipeline import TrainPipeline, array_spec
from vljepa_jax.data.rows import text_id
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.models.text_pretraining import LanguageModel
from vljepa_jax.objectives import make_objective
from vljepa_jax.train_loop import train

OBJECTIVES = ("text_pairs", "language_model")


def first_batch(config):
    return next(iter(TrainPipeline(config).batches(0)))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_batches_are_as_specified(objective):
    config = tiny_text_config(objective)
    arrays = first_batch(config).arrays
    assert "video" not in arrays
    assert {name: (a.shape, a.dtype) for name, a in arrays.items()} == array_spec(config)


def test_rows_of_triplets_hold_the_texts_of_one_annotation():
    config = tiny_text_config("text_pairs", batch_size=16)
    batch = first_batch(config)
    source = TrainPipeline(config)._reader._sources[0].source
    texts = {a.id: a.texts for i in range(len(source)) for a in source[i].annotations}
    tokenizer = Tokenizer("@world")
    for row, name in enumerate(batch.ids):
        tokens, mask = tokenizer.encode(texts[name], 12)
        np.testing.assert_array_equal(batch.arrays["tokens"][row], tokens)
        np.testing.assert_array_equal(batch.arrays["mask"][row], mask)
        assert batch.arrays["text_id"][row].tolist() == [text_id(text) for text in texts[name]]


def test_a_sentence_is_the_query_and_an_answer():
    config = tiny_text_config("language_model")
    batch = first_batch(config)
    source = TrainPipeline(config)._reader._sources[0].source
    annotations = {a.id: a for i in range(len(source)) for a in source[i].annotations}
    tokenizer = Tokenizer("@world")
    for row, name in enumerate(batch.ids):
        annotation = annotations[name]
        possible = [f"{annotation.query} {text}".strip() for text in annotation.texts]
        tokens = tokenizer.encode(possible, 12)[0]
        assert (tokens == batch.arrays["tokens"][row]).all(axis=1).any()


def random_params(objective, seed=0):
    params, _ = objective.init(jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    return jax.tree.unflatten(
        tree, [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


def test_the_loss_of_triplets_is_that_of_the_formula():
    """Equal texts are masked, the negatives of all rows count. Float32 against float64, 1e-5."""
    config = tiny_text_config("text_pairs")
    objective = make_objective(config)
    params = random_params(objective)
    arrays = first_batch(config).arrays
    arrays["text_id"][3, 0] = arrays["text_id"][1, 0]  # the same text twice
    arrays["text_id"][5, 2] = arrays["text_id"][2, 0]  # a negative that is another row's text
    key = jax.random.key(0)
    found = objective.represent(params, {}, arrays, key)
    loss, _ = objective.loss(params, found, arrays, jax.random.key(0), None)

    text, paraphrase, other = (
        np.asarray(x, np.float64) for x in (found.text, found.paraphrase, found.other)
    )
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-6)
    scale = np.exp(float(params["log_logit_scale"]))
    ids = arrays["text_id"]
    total = 0.0
    for i in range(len(text)):
        positive = scale * text[i] @ paraphrase[i]
        columns = [positive]
        columns += [
            scale * text[i] @ paraphrase[j]
            for j in range(len(text))
            if j != i and ids[j, 0] != ids[i, 0]
        ]
        columns += [scale * text[i] @ other[j] for j in range(len(text)) if ids[j, 2] != ids[i, 0]]
        rows = [positive]
        rows += [
            scale * text[j] @ paraphrase[i]
            for j in range(len(text))
            if j != i and ids[j, 0] != ids[i, 0]
        ]
        total += np.log(np.exp(columns).sum()) + np.log(np.exp(rows).sum()) - 2 * positive
    assert float(loss) == pytest.approx(total / (2 * len(text)), rel=1e-5)


def test_each_text_of_a_triplet_is_encoded_by_itself():
    config = tiny_text_config("text_pairs")
    objective = make_objective(config)
    params = random_params(objective)
    arrays = first_batch(config).arrays
    whole = objective.represent(params, {}, arrays, jax.random.key(0))
    turned = {name: array[:, ::-1] for name, array in arrays.items()}
    swapped = objective.represent(params, {}, turned, jax.random.key(0))
    np.testing.assert_allclose(whole.text, swapped.other, atol=1e-5)
    np.testing.assert_allclose(whole.paraphrase, swapped.paraphrase, atol=1e-5)


def test_the_loss_of_tokens_is_that_of_the_formula():
    config = tiny_text_config("language_model")
    objective = make_objective(config)
    params = random_params(objective)
    arrays = first_batch(config).arrays
    found = objective.represent(params, {}, arrays, jax.random.key(0))
    loss, metrics = objective.loss(params, found, arrays, jax.random.key(0), None)
    tokens, mask = arrays["tokens"], arrays["mask"]
    logits = LanguageModel(config.model).apply({"params": params}, tokens, mask)
    probability = np.asarray(jax.nn.softmax(np.asarray(logits, np.float64)))
    nats = [
        -np.log(probability[row, place, tokens[row, place + 1]])
        for row in range(len(tokens))
        for place in range(tokens.shape[1] - 1)
        if mask[row, place + 1]
    ]
    assert float(loss) == pytest.approx(np.mean(nats), rel=1e-5)
    assert float(metrics["perplexity"]) == pytest.approx(np.exp(np.mean(nats)), rel=1e-5)


def test_the_language_model_sees_nothing_that_follows():
    config = tiny_text_config("language_model")
    model = LanguageModel(config.model)
    params = random_params(make_objective(config))
    tokens = jnp.asarray(np.random.default_rng(0).integers(1, 1024, (2, 10)))
    mask = jnp.ones((2, 10), bool)
    before = model.apply({"params": params}, tokens, mask)
    after = model.apply({"params": params}, tokens.at[:, 6].add(1), mask)
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] != after[:, 6:]).any(axis=-1).all()


def test_a_language_model_that_sees_ahead_is_refused():
    config = tiny_text_config("language_model")
    ahead = dataclasses.replace(config.model.predictor, causal=False)
    with pytest.raises(ConfigError, match=r"model\.predictor\.causal"):
        make_objective(
            dataclasses.replace(config, model=dataclasses.replace(config.model, predictor=ahead))
        )


def test_text_alone_has_no_video():
    config = tiny_text_config("language_model")
    with pytest.raises(ConfigError, match="text alone"):
        dataclasses.replace(config, data=dataclasses.replace(config.data, visual_tokens="compute"))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_lowers_the_loss(objective, tmp_path):
    config = tiny_text_config(objective, steps=30, batch_size=16)
    train(config, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
