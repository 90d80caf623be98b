"""Texts and likelihoods of a loaded VLM against passes over whole sequences, without a cache."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.tiny import tiny_train_config, tiny_vlm_config
from vljepa_jax import run_dir
from vljepa_jax.config import ConfigError
from vljepa_jax.data.tokenizers import Tokenizer
from vljepa_jax.inference.generate import Decoding, generate
from vljepa_jax.inference.model import require_vljepa
from vljepa_jax.inference.vlm import VisionLanguageModel, load_vlm
from vljepa_jax.models.vlm import VLM
from vljepa_jax.objectives import make_objective

END = 2
QUERIES = ["What moves?", "", "What does the red car that is on the left do?", "How many?", "Who?"]
ROWS = np.array([2, 0, 1, 1, 2])  # three clips
CANDIDATES = ["a dog", "a red car that grows", "yes", "a dog that spins and spins"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(directory, parameters) with every one of them random; some texts end before others."""
    config = tiny_vlm_config()
    shapes, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    rng = np.random.default_rng(5)
    params = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(x.dtype), shapes)
    params["token_embedding"]["embedding"][END] *= 8
    directory = tmp_path_factory.mktemp("runs") / "vlm"
    run_dir.save_params(directory, config, params)
    return directory, params


@pytest.fixture(scope="module")
def model(run):
    return load_vlm(run[0], batch_size=4)


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(1).integers(0, 256, (3, 4, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def visual(model, clips):
    return model.encode_clips(clips)


@pytest.fixture(scope="module")
def log_probabilities(run, clips):
    """(clip, query, tokens after it) -> log-probabilities [t + 1, v], in one pass, float64."""
    tiny, tokenizer = VLM(tiny_vlm_config().model), Tokenizer("@world")
    room = 48

    @jax.jit
    def logits(video, tokens, mask):
        batch = {"video": video[None], "tokens": tokens[None], "mask": mask[None]}
        return tiny.apply({"params": run[1]}, batch)[0]

    def apply(row, query, after):
        before = tokenizer.encode_whole([query])[0][:12]
        tokens = np.zeros(room, np.int32)
        length = len(before) + len(after)
        tokens[:length] = [*before, *after]
        scores = np.float64(logits(clips[row], tokens, np.arange(room) < length + 1))
        scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
        return scores[len(before) : length + 1]

    return apply


def prefix(model, visual):
    """What generation is given, of all queries, at once."""
    ((_, inputs),) = VisionLanguageModel(
        model.config, model._params, batch_size=len(QUERIES), mesh=model.mesh
    )._batches(visual, ROWS, QUERIES)
    return inputs


def test_greedy_with_a_cache_is_greedy_without(model, visual, log_probabilities):
    """Token by token, and the log-probability, 1e-4; queries of 1 to 12 tokens side by side."""
    inputs = prefix(model, visual)
    written = generate(model._model, model._params, inputs, 10, END, Decoding())
    lengths = set()
    for row, (clip, query) in enumerate(zip(ROWS, QUERIES, strict=True)):
        text, total = [], 0.0
        while len(text) < 10 and END not in text:
            scores = log_probabilities(clip, query, text)[-1]
            text.append(int(scores.argmax()))
            total += scores.max()
        rest = (10 - len(text)) * [END]
        assert np.asarray(written.tokens)[row].tolist() == text + rest
        assert float(written.log_probability[row]) == pytest.approx(total, abs=1e-4)
        lengths.add(len(text))
    assert len(lengths) > 1  # some end early, while others go on


def test_logits_of_a_step_are_those_of_the_whole(model, visual, log_probabilities):
    """Every token's, not the likeliest's alone: 1e-5."""
    inputs, params = prefix(model, visual), {"params": model._params}
    after = np.random.default_rng(3).integers(3, 1024, (len(QUERIES), 4))
    logits, cache = model._model.apply(params, inputs, 4, method="start")
    for step in range(5):
        found = jax.nn.log_softmax(np.asarray(logits)[: len(QUERIES)], axis=-1)
        for row, (clip, query) in enumerate(zip(ROWS, QUERIES, strict=True)):
            expected = log_probabilities(clip, query, after[row, :step])[-1]
            np.testing.assert_allclose(found[row], expected, atol=1e-5)
        if step < 4:
            tokens = jnp.asarray(after[:, step])
            logits, cache = model._model.apply(params, tokens, cache, method="extend")


def test_texts_do_not_depend_on_the_batch(model, run, visual):
    texts = model.generate(visual, ROWS, QUERIES)
    assert len(set(texts)) > 1
    for row, query in enumerate(QUERIES):
        assert model.generate(visual, ROWS[[row]], [query]) == [texts[row]]
    assert load_vlm(run[0], batch_size=8).generate(visual, ROWS, QUERIES) == texts
    assert model.generate(visual, ROWS[:0], []) == []
    beams = model.generate(visual, ROWS, QUERIES, "beam", beams=3, max_tokens=6)
    assert beams != model.generate(visual, ROWS, QUERIES, max_tokens=6)
    drawn = [model.generate(visual, ROWS, QUERIES, "top_p", top_p=1.0, seed=s) for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_beam_is_beam_search_without_a_cache(model, visual, log_probabilities):
    inputs = prefix(model, visual)
    decoding = Decoding("beam", beams=3, length_penalty=0.7)
    written = generate(model._model, model._params, inputs, 4, END, decoding)
    for row, (clip, query) in enumerate(zip(ROWS, QUERIES, strict=True)):
        beams = [([], 0.0)]
        for _ in range(4):
            longer = []
            for text, total in beams:
                if END in text:
                    longer.append((text, total))
                    continue
                scores = log_probabilities(clip, query, text)[-1]
                likeliest = np.argsort(-scores)[:3]
                longer += [([*text, int(token)], total + scores[token]) for token in likeliest]
            beams = sorted(longer, key=lambda beam: -beam[1])[:3]
        text, total = max(beams, key=lambda beam: beam[1] / len(beam[0]) ** 0.7)
        assert np.asarray(written.tokens)[row].tolist() == text + (4 - len(text)) * [END]
        assert float(written.log_probability[row]) == pytest.approx(total, abs=1e-4)


def likelihood_by_hand(log_probabilities, clip, query, candidate):
    tokens = [*Tokenizer("@world").encode_whole([candidate])[0][1:], END]
    scores = log_probabilities(clip, query, tokens[:-1])
    return sum(scores[place, token] for place, token in enumerate(tokens)), len(tokens)


def test_likelihoods_are_sums_over_a_candidates_tokens_and_its_end(
    model, visual, log_probabilities
):
    """From whole passes in float64, 1e-5 of each."""
    found = model.likelihoods(visual, ROWS, QUERIES, CANDIDATES)
    assert found.log_probability.shape == (5, 4)
    for row, (clip, query) in enumerate(zip(ROWS, QUERIES, strict=True)):
        for column, candidate in enumerate(CANDIDATES):
            total, tokens = likelihood_by_hand(log_probabilities, clip, query, candidate)
            assert found.log_probability[row, column] == pytest.approx(total, rel=1e-5)
            assert found.tokens[row, column] == tokens
            mean = total / tokens
            assert found.per_token[row, column] == pytest.approx(mean, rel=1e-5)
    # The two rank differently: longer candidates lose by the sum.
    ranks = [scores.argsort(axis=1) for scores in (found.log_probability, found.per_token)]
    assert (ranks[0] != ranks[1]).any()


def test_each_row_may_have_candidates_of_its_own(model, visual):
    shared = model.likelihoods(visual, ROWS, QUERIES, CANDIDATES)
    own = [[CANDIDATES[i] for i in picked] for picked in ([3], [0, 1], [2, 0, 1], [1], [2, 3])]
    found = model.likelihoods(visual, ROWS, QUERIES, own)
    assert found.log_probability.shape == (5, 3)
    for row, texts in enumerate(own):
        columns = [CANDIDATES.index(text) for text in texts]
        expected = shared.log_probability[row, columns]
        np.testing.assert_allclose(found.log_probability[row, : len(texts)], expected, rtol=1e-5)
        assert (found.log_probability[row, len(texts) :] == -np.inf).all()
        assert (found.per_token[row, len(texts) :] == -np.inf).all()
        assert (found.tokens[row, len(texts) :] == 0).all()


def test_a_candidate_longer_than_any_target_of_training_is_not_cut(
    model, visual, log_probabilities
):
    long = "a red car and " * 6 + "a dog"
    found = model.likelihoods(visual, ROWS[:1], QUERIES[:1], [long])
    total, tokens = likelihood_by_hand(log_probabilities, ROWS[0], QUERIES[0], long)
    assert tokens > model.config.data.text.target_length
    assert found.tokens.tolist() == [[tokens]]
    assert found.log_probability[0, 0] == pytest.approx(total, rel=1e-5)


def test_what_cannot_be_is_refused(model, run, visual, clips, tmp_path):
    with pytest.raises(ConfigError, match="objective 'vljepa', and no VLM"):
        VisionLanguageModel(tiny_train_config(), {})
    with pytest.raises(ConfigError, match="no VL-JEPA: load it with .*load_vlm"):
        require_vljepa(model.config)
    with pytest.raises(run_dir.CheckpointError, match="not a run directory"):
        load_vlm(tmp_path)
    text = dataclasses.replace(model.config.data.text, end_token="</s>")
    data = dataclasses.replace(model.config.data, text=text)
    with pytest.raises(ValueError, match="no special token '</s>'"):
        VisionLanguageModel(dataclasses.replace(model.config, data=data), run[1])
    for number in (0, 5):
        with pytest.raises(ValueError, match=f"{number} clips, where 1 to 4"):
            model.encode_clips(np.repeat(clips[:1], number, axis=0))
    with pytest.raises(ValueError, match="2 rows for 1 queries"):
        model.generate(visual, ROWS[:2], QUERIES[:1])
    with pytest.raises(ValueError, match="4 clips are encoded"):
        model.generate(visual, np.array([4]), QUERIES[:1])
    with pytest.raises(ValueError, match="'greed' is not"):
        model.generate(visual, ROWS, QUERIES, "greed")
    for candidates, words in ((["a"], []), "2 lists of .* for 1"), ([], "no cand"), ([[]], "empty"):
        with pytest.raises(ValueError, match=words):
            model.likelihoods(visual, ROWS[:1], QUERIES[:1], candidates)
