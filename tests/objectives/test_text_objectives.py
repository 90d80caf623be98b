"""Pretraining of the text backbones: data, losses, and that training lowers them."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.tiny import (
    CONTEXT,
    tiny_maxsim_config,
    tiny_text_config,
    tiny_visual_reader_config,
    tiny_vlm_config,
    tiny_y_decoder_config,
)
from tests.helpers.trained import trained_losses
from vljepa_jax import losses
from vljepa_jax.config import ConfigError
from vljepa_jax.data.pipeline import TrainPipeline, array_spec
from vljepa_jax.data.rows import text_id
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.losses import token_cross_entropy
from vljepa_jax.models.llama import Llama
from vljepa_jax.models.text_pretraining import LanguageModel, context_places
from vljepa_jax.models.visual_reader import VisualReader
from vljepa_jax.objectives import make_objective

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
    texts = {a.id: a.texts for _, a in TrainPipeline(config)._reader._sources[0].annotations}
    tokenizer = Tokenizer("@world")
    for row, name in enumerate(batch.ids):
        tokens, mask = tokenizer.encode(texts[name], 12)
        np.testing.assert_array_equal(batch.arrays["tokens"][row], tokens)
        np.testing.assert_array_equal(batch.arrays["mask"][row], mask)
        assert batch.arrays["text_id"][row].tolist() == [text_id(text) for text in texts[name]]


def dialogue_config(objective="language_model", **dialogue):
    config = tiny_text_config(objective)
    tasks = {"caption": 1.0, "classification": 1.0, "vqa": 1.0}
    source = dataclasses.replace(config.data.sources[0], tasks=tasks)
    text = dataclasses.replace(config.data.text, **dialogue)
    data = dataclasses.replace(config.data, sources=(source,), text=text)
    return dataclasses.replace(config, data=data)


def with_model(config, **fields):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **fields))


@pytest.mark.parametrize("context", [None, dataclasses.replace(CONTEXT, clause_length=60)])
def test_a_dialogue_has_the_captions_as_context_and_several_questions_about_one_clip(context):
    config = dialogue_config(
        length=160, per_clip=4, context=context, query_length=30, answer_length=60
    )
    config = with_model(config, bidirectional_probability=0.5)
    batch = first_batch(config)
    source = TrainPipeline(config)._reader._sources[0]
    beside = {a.id: source.annotations.of(record) for record, a in source.annotations}
    words = _words()
    for row, name in enumerate(batch.ids):
        annotations = [a for a in beside[name] if a.tags.get("phrasing") != "held_out"]
        text = words.decode(batch.arrays["tokens"][row][batch.arrays["mask"][row]])
        answers = words.decode(batch.arrays["tokens"][row][batch.arrays["answer_mask"][row]])
        asked = [a for a in annotations if words.normal(a.query) in text]
        assert 1 <= len(asked) <= 4  # of this clip alone
        plain = next(a for a in annotations if a.tags["kind"] == "caption")
        begins = [
            text.startswith(words.normal(c))
            for a in annotations
            if a.task == "caption"
            for c in a.texts
        ]
        assert any(begins) == (context is not None)
        # What is marked is the answers of what is asked, in the order of the text.
        for annotation in sorted(asked, key=lambda a: text.index(words.normal(a.query))):
            possible = [
                words.normal(t) for t in (annotation.texts or source.dataset.answer(annotation))
            ]
            found = [t for t in possible if answers.startswith(t)]
            assert found, (answers, possible)
            answers = answers.removeprefix(max(found, key=len)).strip()
        assert not answers
        # One by one: the same questions in the same order.
        arrays = {key: array[row] for key, array in batch.arrays.items()}
        order = sorted(asked, key=lambda a: text.index(words.normal(a.query)))
        assert arrays["query_mask"].any(axis=-1).sum() == len(asked)
        assert arrays["target_mask"].any(axis=-1).sum() == len(asked)
        for place, annotation in enumerate(order):
            query = words.decode(arrays["query_tokens"][place][arrays["query_mask"][place]])
            target = words.decode(arrays["target_tokens"][place][arrays["target_mask"][place]])
            assert query == words.normal(annotation.query)
            assert target in [
                words.normal(t) for t in (annotation.texts or source.dataset.answer(annotation))
            ]
        # Clause by clause: the captions without what stands between clauses.
        if context is not None:
            lengths = arrays["context_mask"].sum(axis=-1)
            clauses = [
                words.decode(clause[:length])
                for clause, length in zip(arrays["context_tokens"], lengths, strict=True)
                if length
            ]
            assert (lengths[: len(clauses)] > 0).all()
            captions = text[: text.index(words.normal(order[0].query))]
            between = set()
            for clause in clauses:
                before, captions = captions.split(clause, 1)
                between.add(before.strip())
            assert between <= {"", ",", "and", "while", "as well as"}
            assert not captions.strip()
            joined = re.compile(r"(?:,|and|while|as) an? ")
            assert clauses
            assert not any(joined.search(clause) for clause in clauses)
        # A caption that is asked for comes after all that it would give away.
        if words.normal(plain.query) in text:
            rest = text.split(words.normal(plain.query))[1]
            assert not any(words.normal(a.query) in rest for a in asked if a.task != "caption")


class _words:
    def __init__(self):
        self._tokenizer = Tokenizer("@world")._tokenizer

    def decode(self, ids):
        return self._tokenizer.decode(ids.tolist()).strip()

    def normal(self, text):
        return self.decode(np.array(self._tokenizer.encode(text).ids))


def test_only_answers_count_for_a_visual_reader_and_they_depend_on_the_clip():
    config = tiny_visual_reader_config()
    params, arrays, found, loss, metrics = first_loss(config)
    logits = VisualReader(config.model).apply({"params": params}, arrays)
    probability = np.asarray(jax.nn.softmax(np.asarray(logits, np.float64)))
    tokens, counts = arrays["tokens"], arrays["answer_mask"]
    places = [(r, t) for r, t in np.argwhere(counts) if t > 0]
    nll = [-np.log(probability[r, t - 1, tokens[r, t]]) for r, t in places]
    correct = [logits[r, t - 1].argmax() == tokens[r, t] for r, t in places]
    assert float(loss) == pytest.approx(np.mean(nll), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(np.mean(correct))
    assert 0 < counts.sum() < arrays["mask"].sum()
    other = make_objective(config).represent(
        params, {}, arrays | {"video": 255 - arrays["video"]}, jax.random.key(0)
    )
    assert (np.abs(np.asarray(found.answers.nll - other.answers.nll)) > 1e-4).all()


def test_clauses_are_found_at_single_visual_tokens():
    """The second loss is ``soft_maxsim`` of vectors made here, 1e-5, and the first is what it
    was, 1e-4 of the second."""
    config = tiny_maxsim_config()
    params, arrays, _, loss, metrics = first_loss(config)

    visual = VisualReader(config.model).apply(
        {"params": params}, arrays["video"], method="encode_video"
    )
    projection = params["vision_projection"]
    tokens = np.float64(visual) @ np.float64(projection["kernel"]) + projection["bias"]
    table = np.float64(params["token_embedding"]["embedding"])
    mask = arrays["context_mask"]
    words = (table[arrays["context_tokens"]] * mask[..., None]).sum(axis=2)
    said = [
        [tuple(t[m]) for t, m in zip(*row, strict=True)]
        for row in zip(arrays["context_tokens"], mask, strict=True)
    ]
    known = sorted({clause for row in said for clause in row})
    there = mask.any(axis=-1)
    assert there.sum(axis=1).max() > 1
    assert not there.all()
    clauses, _ = losses.soft_maxsim(
        np.float32(tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)),
        np.float32(words / np.maximum(np.linalg.norm(words, axis=-1, keepdims=True), 1e-6)),
        there,
        np.array([[known.index(clause) for clause in row] for row in said]),
        np.exp(params["log_logit_scale"]),
    )
    assert float(metrics["clauses/loss"]) == pytest.approx(float(clauses), rel=1e-5)

    del params["log_logit_scale"]
    plain = make_objective(with_model(config, maxsim_weight=0.0))
    key = jax.random.key(0)
    alone, _ = plain.loss(params, plain.represent(params, {}, arrays, key), arrays, key, None)
    assert float(loss - alone) == pytest.approx(0.5 * float(clauses), rel=1e-4)


def test_a_visual_reader_sees_no_answer_before_it_is_given():
    config = tiny_visual_reader_config()
    params = random_params(make_objective(config))
    arrays = first_batch(config).arrays
    model = VisualReader(config.model)
    changed = arrays["tokens"].copy()
    changed[:, 6:] = (changed[:, 6:] + 1) % 1024
    before = model.apply({"params": params}, arrays)
    after = model.apply({"params": params}, arrays | {"tokens": changed})
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] != after[:, 6:]).any()


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_the_first_half_of_the_layers_is_skipped_with_the_probability(probability):
    config = with_model(tiny_text_config("language_model"), skip_probability=probability)
    objective = make_objective(config)
    params = random_params(objective)
    arrays = first_batch(config).arrays
    nll = objective.represent(params, {}, arrays, jax.random.key(0)).nll
    half = config.model.predictor.num_layers // 2
    predictor = params["predictor"]
    for part in (slice(0, half), slice(half, None)):
        zeroed = jax.tree.map(lambda x: x.at[part].set(0.0), predictor["layers"])  # noqa: B023
        without = {**params, "predictor": {**predictor, "layers": zeroed}}
        changed = objective.represent(without, {}, arrays, jax.random.key(0)).nll
        used = probability == 0 or part.start == half
        assert (np.abs(np.asarray(nll - changed)) > 1e-4).all() == used


def bidirectional_language_model():
    return with_model(dialogue_config(per_clip=3, context=CONTEXT), bidirectional_probability=1.0)


def test_clauses_stand_equally_often_in_random_order():
    there = np.arange(4) < np.array([[3], [1], [0], [4]])
    places = np.asarray(context_places(jax.random.key(1), there, 12))
    assert [np.bincount(row, minlength=4).tolist() for row in places] == [
        [4, 4, 4, 0],
        [12, 0, 0, 0],
        [12, 0, 0, 0],  # there are no clauses: what stands there is zero
        [3, 3, 3, 3],
    ]
    other = np.asarray(context_places(jax.random.key(2), there, 12))
    assert (places[0] != other[0]).any()
    assert (np.sort(places[0]) != places[0]).any()


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "missing"), (" ?", "matches nothing"), ("(and)", "groups")]
)
def test_clauses_that_cannot_be_are_refused(pattern, message):
    context = dataclasses.replace(CONTEXT, clause_break=pattern)
    with pytest.raises(ConfigError, match=message):
        TrainPipeline(dialogue_config(context=context))


@pytest.mark.parametrize(
    ("dialogue", "model", "message"),
    [
        ({}, {"bidirectional_probability": 0.5}, "data.text.context: None"),
        ({"context": CONTEXT}, {"context_length": 0}, "model.context_length: 0"),
    ],
)
def test_bidirectional_steps_need_a_context(dialogue, model, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_objective(with_model(dialogue_config(**dialogue), **model))


def bidirectional_visual_reader():
    return with_model(tiny_visual_reader_config(), bidirectional_probability=1.0)


def context_by_hand(table, tokens, mask, places):
    """Each place of one row: the sum of a clause's words over the root of their number."""
    clauses = [(table[tokens[place][mask[place]]], mask[place].sum()) for place in places]
    return np.stack([words.sum(axis=0) / np.sqrt(number) for words, number in clauses])


@pytest.mark.parametrize("make_config", [bidirectional_language_model, bidirectional_visual_reader])
def test_answers_are_predicted_from_the_mean_over_the_question(make_config):
    """The loss against the formula in float64, 1e-5, from the layers' own output."""
    config = make_config()
    params, arrays, _, loss, metrics = first_loss(config)

    size = config.model.predictor.num_layers
    kept = size - size // 2 if config.objective == "language_model" else size
    layers = jax.tree.map(lambda x: x[-kept:], params["predictor"]["layers"])
    sizes = dataclasses.replace(config.model.predictor, num_layers=kept, causal=False)
    llama = Llama(sizes)
    table = np.asarray(params["token_embedding"]["embedding"])
    if config.objective == "language_model":
        there = arrays["context_mask"].any(axis=-1)
        places = context_places(jax.random.split(jax.random.key(0), 3)[2], there, 5)
        rows = zip(arrays["context_tokens"], arrays["context_mask"], places, strict=True)
        visual = np.stack([context_by_hand(table, *row) for row in rows])
    else:
        model = VisualReader(config.model)
        visual = model.apply({"params": params}, arrays["video"], method="encode_video")
        projection = params["vision_projection"]
        visual = visual @ projection["kernel"] + projection["bias"]
    nll, correct = [], []
    for row, place in np.argwhere(arrays["query_mask"].any(axis=-1)):
        query = arrays["query_tokens"][row, place][arrays["query_mask"][row, place]]
        answer = arrays["target_tokens"][row, place][arrays["target_mask"][row, place]]
        tokens = np.concatenate([visual[row], table[query]])[None]
        hidden = llama.apply({"params": {**params["predictor"], "layers": layers}}, tokens)
        logits = np.float64(hidden[0, -len(query) :]).mean(axis=0) @ np.float64(table).T
        nll.append(np.mean([np.log(np.exp(logits).sum()) - logits[word] for word in answer]))
        correct.append(logits.argmax() in answer)
    assert len(nll) > len(arrays["query_tokens"])  # several of a clip
    assert float(loss) == pytest.approx(np.mean(nll), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(np.mean(correct))


def test_some_steps_are_bidirectional_with_the_probability_between():
    """Only bidirectional steps depend on single questions."""
    config = with_model(dialogue_config(per_clip=3, context=CONTEXT), bidirectional_probability=0.5)
    objective = make_objective(config)
    params = random_params(objective)
    arrays = first_batch(config).arrays
    changed = arrays | {"query_tokens": (arrays["query_tokens"] + 1) % 1024}
    represent = jax.jit(objective.represent)
    seen = set()
    for step in range(8):
        key = jax.random.key(step)
        one, other = (represent(params, {}, a, key).nll for a in (arrays, changed))
        seen.add(bool((one != other).any()))
    assert seen == {False, True}


@pytest.mark.parametrize("make_config", [dialogue_config, tiny_visual_reader_config])
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_loaders_make_what_the_steps_use(make_config, probability):
    config = with_model(make_config(), bidirectional_probability=probability)
    arrays = first_batch(config).arrays
    assert {name: (a.shape, a.dtype) for name, a in arrays.items()} == array_spec(config)
    assert ("tokens" in arrays) == (probability < 1)
    assert ("query_tokens" in arrays) == (probability > 0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("bidirectional_probability", 1.5, "model.bidirectional_probability: 1.5 is not in 0 .. 1"),
        ("maxsim_weight", -1.0, "model.maxsim_weight: -1.0 is less than 0"),
    ],
)
def test_settings_of_a_visual_reader_that_cannot_be_are_refused(field, value, message):
    config = with_model(tiny_visual_reader_config(), **{field: value})
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_objective(config)


@pytest.mark.parametrize("make_config", [tiny_visual_reader_config, bidirectional_visual_reader])
def test_maxsim_needs_bidirectional_steps_and_what_a_clause_is(make_config):
    with pytest.raises(
        ConfigError, match=r"needs bidirectional_probability=1.*data\.text\.context"
    ):
        make_objective(with_model(make_config(), maxsim_weight=0.5))


def test_a_sentence_is_the_query_and_an_answer():
    config = tiny_text_config("language_model")
    batch = first_batch(config)
    annotations = {a.id: a for _, a in TrainPipeline(config)._reader._sources[0].annotations}
    tokenizer = Tokenizer("@world")
    for row, name in enumerate(batch.ids):
        annotation = annotations[name]
        possible = [f"{annotation.query} {text}".strip() for text in annotation.texts]
        tokens = tokenizer.encode(possible, 12)[0]
        assert (tokens == batch.arrays["tokens"][row]).all(axis=1).any()


def first_loss(config):
    """Random parameters, the first batch, and what is found of it."""
    objective = make_objective(config)
    params = random_params(objective)
    arrays = first_batch(config).arrays
    found = objective.represent(params, {}, arrays, jax.random.key(0))
    loss, metrics = objective.loss(params, found, arrays, jax.random.key(0), None)
    return params, arrays, found, loss, metrics


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
    nll = [
        -np.log(probability[row, place, tokens[row, place + 1]])
        for row in range(len(tokens))
        for place in range(tokens.shape[1] - 1)
        if mask[row, place + 1]
    ]
    assert float(loss) == pytest.approx(np.mean(nll), rel=1e-5)
    assert float(metrics["perplexity"]) == pytest.approx(np.exp(np.mean(nll)), rel=1e-5)


@pytest.mark.parametrize(
    "make_config",
    [
        dialogue_config,
        tiny_visual_reader_config,
        bidirectional_visual_reader,
        tiny_vlm_config,
        tiny_y_decoder_config,
    ],
)
def test_logits_of_few_places_at_a_time_change_no_loss(make_config, monkeypatch):
    """Two places of a vocabulary of 1,024, and more: losses to 1e-6, gradients to 1e-5 of each."""
    config = make_config()
    objective = make_objective(config)
    params, arrays = random_params(objective), first_batch(config).arrays
    seen = []

    def differentiated(at_once):
        def cross_entropy(*args, **options):
            seen.append(args[0].shape[1])
            return token_cross_entropy(*args, logits_at_once=at_once, **options)

        monkeypatch.setattr(losses, "token_cross_entropy", cross_entropy)

        def loss(params):
            found = objective.represent(params, {}, arrays, jax.random.key(0))
            return objective.loss(params, found, arrays, jax.random.key(0), None)[0]

        return jax.jit(jax.value_and_grad(loss))(params)

    whole, chunked = differentiated(2**30), differentiated(2 * config.batch_size * 1024)
    assert min(seen) > 2
    assert float(chunked[0]) == pytest.approx(float(whole[0]), rel=1e-6)
    for one, other in zip(jax.tree.leaves(chunked[1]), jax.tree.leaves(whole[1]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * max(np.abs(other).max(), 1e-6))


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
    losses = trained_losses(config, tmp_path / "run")
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
