import dataclasses
import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.tiny import fake_arrays, tiny_model_config, tiny_train_config
from vljepa_jax.models.vljepa import VLJEPA

CONFIG = tiny_model_config()


def batch():
    arrays = fake_arrays(tiny_train_config())
    del arrays["target_id"]
    return arrays


@pytest.fixture(scope="module")
def params():
    return jax.jit(VLJEPA(CONFIG).init)(jax.random.key(0), batch())["params"]


def apply(params, *inputs, method=None, **changes):
    return _function(method, tuple(changes.items()))(params, *inputs)


@functools.cache
def _function(method, changes):
    model = VLJEPA(dataclasses.replace(CONFIG, **dict(changes)))
    return jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs, method=method))


def visual_tokens(params):
    return apply(params, batch()["video"], method="encode_video")


def test_output(params):
    output = apply(params, batch())
    for embedding in (output.predicted, output.target):
        assert embedding.shape == (8, CONFIG.embedding_size)
        assert embedding.dtype == jnp.float32
        np.testing.assert_allclose(np.linalg.norm(embedding, axis=-1), 1.0, rtol=1e-5)
    scale = apply(params, method="logit_scale")
    np.testing.assert_allclose(scale, 1 / CONFIG.initial_temperature, rtol=1e-6)
    assert set(params) == {
        *("x_encoder", "vision_projection", "token_embedding", "predictor", "predictor_head"),
        *("y_encoder", "y_head", "log_logit_scale"),
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_visual_tokens_stand_in_for_video(params):
    arrays = batch()
    direct = apply(params, arrays)
    arrays["visual_tokens"] = visual_tokens(params)
    with pytest.raises(ValueError, match="either"):
        apply(params, arrays)
    del arrays["video"]
    np.testing.assert_array_equal(apply(params, arrays).predicted, direct.predicted)
    del arrays["visual_tokens"]
    with pytest.raises(ValueError, match="either"):
        apply(params, arrays)


def test_each_method_reads_its_own_parameters_alone(params):
    arrays = batch()
    only = {"x_encoder": params["x_encoder"]}
    np.testing.assert_array_equal(
        apply(only, arrays["video"], method="encode_video"), visual_tokens(params)
    )
    only = {name: params[name] for name in ("y_encoder", "y_head")}
    apply(only, arrays["target_tokens"], arrays["target_mask"], method="encode_text")


@pytest.mark.parametrize("pooling", ["all", "query"])
def test_predictions_do_not_depend_on_padding(params, pooling):
    tokens, mask = batch()["query_tokens"], batch()["query_mask"]
    visual = visual_tokens(params)
    expected = apply(params, visual, tokens, mask, method="predict", pooling=pooling)
    # What stands at padding changes nothing at all ...
    other = apply(
        params, visual, np.where(mask, tokens, 7), mask, method="predict", pooling=pooling
    )
    np.testing.assert_array_equal(other, expected)
    # ... and how much of it there is, only the order of additions.
    wider = [np.pad(array, ((0, 0), (0, 20))) for array in (tokens, mask)]
    found = apply(params, visual, *wider, method="predict", pooling=pooling)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for row in range(3):
        length = mask[row].sum()
        alone = (
            visual[row : row + 1],
            tokens[row : row + 1, :length],
            mask[row : row + 1, :length],
        )
        found = apply(params, *alone, method="predict", pooling=pooling)
        np.testing.assert_allclose(found[0], expected[row], atol=1e-6)


@pytest.mark.parametrize("pooling", ["all", "query"])
def test_empty_query_pools_the_visual_tokens(params, pooling):
    visual = visual_tokens(params)
    tokens = jnp.zeros((8, 5), jnp.int32)
    padded = apply(params, visual, tokens, tokens > 0, method="predict", pooling=pooling)
    none = apply(params, visual, tokens[:, :0], tokens[:, :0] > 0, method="predict")
    np.testing.assert_allclose(np.linalg.norm(padded, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(padded, none, atol=1e-6)


def test_pooling_takes_all_tokens_or_the_query_alone(params):
    visual, arrays = visual_tokens(params), batch()
    tokens, mask = arrays["query_tokens"], arrays["query_mask"]
    embedded = apply(params, tokens, method="embed_query")
    hidden = np.asarray(apply(params, visual, embedded, mask, method="contextualise"))
    head = np.asarray(params["predictor_head"]["kernel"])
    count = visual.shape[1]
    for pooling, start in (("all", 0), ("query", count)):
        rows = [
            hidden[row, start : count + mask[row].sum()].mean(axis=0) @ head for row in range(8)
        ]
        expected = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
        found = apply(params, visual, tokens, mask, method="predict", pooling=pooling)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_visual_and_query_tokens_attend_to_each_other(params):
    """By gradients; a causal mask would cut the first, since the query comes after."""
    visual, arrays = visual_tokens(params)[:1], batch()
    mask = np.arange(12) < 4
    embedded = apply(params, arrays["query_tokens"][:1], method="embed_query")
    count = visual.shape[1]

    def at(position, visual, embedded, **changes):
        hidden = apply(params, visual, embedded, mask[None], method="contextualise", **changes)
        return (hidden[0, position] ** 3).sum()

    by_query = np.abs(jax.grad(at, argnums=2)(0, visual, embedded)).sum(-1)[0]
    assert (by_query[:4] > 0).all()
    np.testing.assert_array_equal(by_query[4:], 0.0)  # padding
    assert (np.abs(jax.grad(at, argnums=1)(count, visual, embedded)).sum(-1) > 0).all()
    causal = dataclasses.replace(CONFIG.predictor, causal=True)
    cut = jax.grad(lambda e: at(0, visual, e, predictor=causal))(embedded)
    np.testing.assert_array_equal(cut, 0.0)


def test_targets_do_not_depend_on_padding(params):
    tokens, mask = batch()["target_tokens"], batch()["target_mask"]
    expected = apply(params, tokens, mask, method="encode_text")
    wider = [np.pad(array, ((0, 0), (0, 9))) for array in (tokens, mask)]
    np.testing.assert_allclose(apply(params, *wider, method="encode_text"), expected, atol=1e-6)


def test_logit_scale_is_clipped_but_can_come_back(params):
    def scale(value):
        return apply({"log_logit_scale": value}, method="logit_scale")

    high = jnp.float32(6.0)
    np.testing.assert_allclose(scale(high), 100.0, rtol=1e-5)
    assert jax.grad(scale)(high) > 0  # a loss that falls with a smaller scale leads back
    assert jax.grad(lambda value: -scale(value))(high) == 0
    np.testing.assert_allclose(jax.grad(scale)(jnp.float32(2.0)), np.exp(2.0), rtol=1e-5)


def products(jaxpr):
    """Matrix products that a program runs; a scanned layer counts once per turn."""
    count = 0
    for equation in jaxpr.eqns:
        inner = sum(products(sub) for sub in jax.extend.core.jaxprs_in_params(equation.params))
        count += inner * equation.params.get("length", 1) if inner else 0
        count += equation.primitive.name == "dot_general"
    return count


def test_frozen_x_encoder_costs_no_backward_pass(params):
    trained = {name: leaf for name, leaf in params.items() if name != "x_encoder"}

    def loss(trained, batch):
        output = apply(trained | {"x_encoder": params["x_encoder"]}, batch)
        return (output.predicted * output.target).sum()

    def cost(function, *inputs):
        return products(jax.make_jaxpr(function)(*inputs).jaxpr)

    arrays = batch()
    cached = arrays | {"visual_tokens": visual_tokens(params)}
    del cached["video"]
    encoding = cost(lambda video: apply(params, video, method="encode_video"), arrays["video"])
    assert encoding > 0
    assert cost(jax.grad(loss), trained, arrays) == encoding + cost(jax.grad(loss), trained, cached)


def test_remat_says_what_is_computed_twice(params):
    """That the values stay the same is shown for the stack itself, in test_layers.py."""

    def cost(remat):
        def loss(params):
            return apply(params, batch(), remat=remat).predicted.sum()

        return products(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)

    assert cost("none") < cost("dots") < cost("full")


def test_bfloat16_stays_close_and_returns_float32(params):
    expected, found = apply(params, batch()), apply(params, batch(), dtype="bfloat16")
    for name in ("predicted", "target"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == jnp.float32
        assert (one * other).sum(-1).min() > 0.99
    assert visual_tokens(params).dtype == jnp.float32
    assert (
        apply(params, batch()["video"], method="encode_video", dtype="bfloat16").dtype == "bfloat16"
    )
