"""The plain VLM: its rows, what the loss is of, what each token sees; a run from end to end."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.tiny import fake_targets, tiny_vlm_config
from tests.helpers.trained import trained_losses
from vljepa_jax.config import ConfigError
from vljepa_jax.data.pipeline import TrainPipeline, array_spec
from vljepa_jax.data.text_rows import TokenTargetRows
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.inference.vlm import load_vlm
from vljepa_jax.models.vlm import VLM
from vljepa_jax.objectives import make_objective

END = 2  # [EOS] of the world's tokenizer


def drawn_params(config, seed=0):
    """Every parameter random, biases and norms too."""
    shapes, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(x.dtype), shapes)


def test_a_row_is_the_query_its_target_and_an_end():
    """By hand, from the tokens of each text; the last query and target are too long."""
    config = tiny_vlm_config()
    text = config.data.text
    pairs = [("What moves?", "a dog"), ("", "a cat jumps"), ("so " * 30, "and " * 30)]
    arrays = TokenTargetRows(config).arrays(pairs)
    tokenizer = Tokenizer("@world")
    for row, (query, target) in enumerate(pairs):
        before = tokenizer.encode_whole([query])[0][: text.query_length].tolist()
        after = [*tokenizer.encode_whole([target])[0][1:].tolist(), END][: text.target_length]
        found = {name: array[row].tolist() for name, array in arrays.items()}
        length = len(before) + len(after)
        padding = 32 - length
        assert found["tokens"] == before + after + padding * [tokenizer.pad_id]
        assert found["mask"] == length * [True] + padding * [False]
        assert found["target_mask"] == [
            *(len(before) * [False] + len(after) * [True] + padding * [False])
        ]
        assert (after[-1] == END) == (row < 2)  # a text that is cut has no end
    assert arrays["tokens"][1][0] == 1  # no query: the token that begins a text


def test_batches_are_as_specified_and_of_queries_with_answers():
    config = tiny_vlm_config()
    batch = next(iter(TrainPipeline(config).batches(0)))
    assert {n: (a.shape, a.dtype) for n, a in batch.arrays.items()} == array_spec(config)
    reader = TrainPipeline(config)._reader._sources[0]
    annotations = {a.id: a for _, a in reader.annotations}
    tokenizer = Tokenizer("@world")
    for row, name in enumerate(batch.ids):
        annotation = annotations[name]
        tokens, target = batch.arrays["tokens"][row], batch.arrays["target_mask"][row]
        texts = annotation.texts or reader.dataset.answer(annotation)
        assert tokenizer.decode(tokens[target]) in [
            tokenizer.decode(tokenizer.encode_whole([text])[0][1:21]) for text in texts
        ]


def test_the_loss_is_that_of_the_target_and_its_end_alone():
    """Two rows by hand, 1e-5: one of a target with its end, one that was cut before it."""
    config = tiny_vlm_config(batch_size=2)
    objective, params = make_objective(config), drawn_params(config)
    arrays = TokenTargetRows(config).arrays([("What moves?", "a dog"), ("Describe", "so " * 30)])
    arrays["video"] = fake_targets(config)["video"]
    key = jax.random.key(0)
    found = objective.represent(params, {}, arrays, key)
    loss, metrics = objective.loss(params, found, arrays, key, None)

    logits = VLM(config.model).apply({"params": params}, arrays)
    scores = (
        np.float64(logits) - np.float64(jax.nn.logsumexp(np.float64(logits), axis=-1))[..., None]
    )
    nll, correct = [], []
    for row, counts in enumerate(arrays["target_mask"]):
        for place in np.flatnonzero(counts):
            token = arrays["tokens"][row, place]
            nll.append(-scores[row, place, token])
            correct.append(scores[row, place].argmax() == token)
    # What counts is known: the tokens of "a dog", one end; and 20 tokens without an end.
    assert arrays["tokens"][0][arrays["target_mask"][0]][-1] == END
    assert len(nll) == len(Tokenizer("@world").encode_whole(["a dog"])[0]) - 1 + 1 + 20
    assert float(loss) == pytest.approx(np.mean(nll), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(np.mean(correct))

    def of_table(embedding):
        changed = params | {"token_embedding": {"embedding": embedding}}
        representations = objective.represent(changed, {}, one, key)
        return objective.loss(changed, representations, one, key, None)[0]

    # A row whose target is its end alone: the query's tokens are read and not predicted.
    one = {name: array[:1].copy() for name, array in arrays.items()}
    one["target_mask"][:] = one["target_mask"] & (one["tokens"] == END)
    alone = nll[len(Tokenizer("@world").encode_whole(["a dog"])[0]) - 1]
    assert float(of_table(params["token_embedding"]["embedding"])) == pytest.approx(alone, rel=1e-5)


def test_no_token_is_seen_by_those_before_it():
    """By gradients: visual tokens and text under one causal mask."""
    config = tiny_vlm_config()
    model, params = VLM(config.model), drawn_params(config)
    rng = np.random.default_rng(0)
    visual = rng.standard_normal((1, 4, 32)).astype(np.float32)
    tokens = np.arange(3, 8, dtype=np.int32)[None]  # different words: one row of the table each
    table = jnp.asarray(params["token_embedding"]["embedding"])

    def logits(table, visual):
        changed = params | {"token_embedding": {"embedding": table}}
        batch = {"visual_tokens": visual, "tokens": tokens, "mask": tokens > 0}
        return model.apply({"params": changed}, batch)[0, :, END]

    by_word, by_patch = jax.jacobian(logits, argnums=(0, 1))(table, visual)
    read = np.abs(by_word[:, 3:8]).sum(axis=-1) > 0
    np.testing.assert_array_equal(read, np.tri(5, k=-1, dtype=bool))
    assert (np.abs(by_patch[:, 0]).sum(axis=-1) > 0).all()  # every token sees the clip

    def hidden(visual):
        words = model.apply({"params": params}, tokens, method="embed_query")
        inputs = (visual, words, tokens > 0)
        return model.apply({"params": params}, *inputs, method="contextualise")[0].sum(axis=-1)

    between = np.abs(jax.jacobian(hidden)(visual)[:4, 0]).sum(axis=-1) > 0
    np.testing.assert_array_equal(between, np.tri(4, dtype=bool))  # and so do visual tokens


def test_padding_changes_no_loss():
    config = tiny_vlm_config()
    objective, params, arrays = make_objective(config), drawn_params(config), fake_targets(config)
    found = objective.represent(params, {}, arrays, jax.random.key(0))
    noise = np.where(arrays["mask"], arrays["tokens"], 7)
    other = objective.represent(params, {}, arrays | {"tokens": noise}, jax.random.key(0))
    assert (arrays["tokens"] != noise).any()
    np.testing.assert_array_equal(found.nll, other.nll)


def test_layers_that_see_ahead_are_refused():
    config = tiny_vlm_config()
    ahead = dataclasses.replace(config.model.predictor, causal=False)
    with pytest.raises(ConfigError, match=r"model\.predictor\.causal"):
        make_objective(
            dataclasses.replace(config, model=dataclasses.replace(config.model, predictor=ahead))
        )


def test_what_is_learnt_by_heart_is_written(tmp_path):
    """A run on four clips with one caption each, and its texts from its directory."""
    config = tiny_vlm_config(steps=150, batch_size=8, log_every=1)
    source = dataclasses.replace(config.data.sources[0], tasks={"classification": 1.0})
    world = dataclasses.replace(config.world, train_clips=4)
    video = dataclasses.replace(config.data.video, sampling="uniform", crop="centre")
    data = dataclasses.replace(config.data, sources=(source,), video=video)
    optimizer = dataclasses.replace(config.optimizer, learning_rate=1e-2)
    config = dataclasses.replace(config, world=world, data=data, optimizer=optimizer)
    losses = trained_losses(config, tmp_path / "run")
    assert losses[-1] < 0.05 < losses[0]

    model = load_vlm(tmp_path / "run", batch_size=4)
    batch = next(iter(TrainPipeline(config).batches(0)))
    tokenizer = Tokenizer("@world")
    queries, targets = [], []
    for row in range(4):
        tokens, mask, target = (batch.arrays[n][row] for n in ("tokens", "mask", "target_mask"))
        queries.append(tokenizer.decode(tokens[mask & ~target]))
        targets.append(tokenizer.decode(tokens[target]))
    visual = model.encode_clips(batch.arrays["video"][:4])
    assert len(set(targets)) > 1
    assert model.generate(visual, np.arange(4), queries) == targets
    assert model.generate(visual, np.arange(4), queries, "beam", beams=2) == targets
    likely = model.likelihoods(visual, np.arange(4), queries, sorted(set(targets)))
    best = likely.log_probability.argmax(axis=1)
    assert [sorted(set(targets))[i] for i in best] == targets
