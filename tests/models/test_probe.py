import dataclasses

import jax
import numpy as np
import pytest

from tests.helpers.tiny import fake_questions, tiny_probe_config
from vljepa_jax.models.probe import Probe, set_of_label


@pytest.fixture(scope="module")
def built():
    config = tiny_probe_config()
    model = Probe(config.model)
    arrays = fake_questions(config)
    params = jax.jit(model.init)(jax.random.key(0), arrays)["params"]
    # Nothing may hide behind a zero bias or a query that starts near zero.
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(0)
    params = tree.unflatten(
        [leaf + 0.2 * rng.standard_normal(leaf.shape).astype(np.float32) for leaf in leaves]
    )
    return config, model, arrays, params


def test_labels_of_other_sets_are_impossible(built):
    config, model, arrays, params = built
    logits = model.apply({"params": params}, arrays)
    columns = {"motions": slice(0, 3), "objects": slice(3, 8)}  # in the order of the names
    assert logits.shape == (8, 4, 8)
    for index, name in enumerate(sorted(config.model.label_sets)):
        own = np.zeros(8, bool)
        own[columns[name]] = True
        np.testing.assert_array_equal(set_of_label(config.model) == index, own)
        asked = arrays["label_set"] == index
        assert np.isfinite(logits[asked][:, own]).all()
        assert np.isneginf(logits[asked][:, ~own]).all()


def test_questions_do_not_see_each_other(built):
    _, model, arrays, params = built
    every = model.apply({"params": params}, arrays)
    for question in range(4):
        alone = {
            name: array if name == "video" else array[:, question : question + 1]
            for name, array in arrays.items()
        }
        one = model.apply({"params": params}, alone)
        np.testing.assert_allclose(one[:, 0], every[:, question], rtol=1e-5, atol=1e-5)


def test_question_words_matter_and_padding_does_not(built):
    config, model, arrays, params = built
    before = model.apply({"params": params}, arrays)
    tokens = arrays["query_tokens"]
    padding = np.where(arrays["query_mask"], tokens, 7)
    np.testing.assert_array_equal(
        model.apply({"params": params}, arrays | {"query_tokens": padding}), before
    )
    words = np.where(arrays["query_mask"], (tokens + 1) % 1024, tokens)
    changed = model.apply({"params": params}, arrays | {"query_tokens": words})
    assert (np.abs(changed - before)[np.isfinite(before)] > 1e-4).mean() > 0.9
    pooler = dataclasses.replace(config.model.pooler, query_vocab_size=0)
    blind = Probe(dataclasses.replace(config.model, pooler=pooler))
    kept = {name: value for name, value in params.items() if name != "token_embedding"}
    without = {name: arrays[name] for name in ("video", "label_set")}
    assert blind.apply({"params": kept}, without).shape == before.shape


def test_cached_tokens_stand_for_the_video(built):
    _, model, arrays, params = built
    cached = {name: array for name, array in arrays.items() if name != "video"}
    cached["visual_tokens"] = model.bind({"params": params}).x_encoder(arrays["video"])
    rest = {name: value for name, value in params.items() if name != "x_encoder"}
    np.testing.assert_allclose(
        model.apply({"params": rest}, cached), model.apply({"params": params}, arrays), rtol=1e-5
    )


def test_the_linear_probe_is_a_linear_map_of_the_mean():
    config = tiny_probe_config(linear=True)
    model = Probe(config.model)
    tokens = np.random.default_rng(0).standard_normal((2, 5, 32)).astype(np.float32)
    arrays = {"visual_tokens": tokens, "label_set": np.array([[1], [0]], np.int32)}
    params = model.init(jax.random.key(0), arrays)["params"]
    assert params.keys() == {"classifier"}
    params["classifier"]["bias"] = np.arange(8, dtype=np.float32)
    logits = model.apply({"params": params}, arrays)[:, 0]
    expected = tokens.mean(1) @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    np.testing.assert_allclose(logits[0, 3:], expected[0, 3:], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits[1, :3], expected[1, :3], rtol=1e-4, atol=1e-4)
