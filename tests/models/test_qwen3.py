import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.tiny import tiny_train_config
from tests.helpers.twins import QWEN3_TWIN
from vljepa_jax.config import ConfigError, TrainConfig, as_dict, parse
from vljepa_jax.models.layers import last_token
from vljepa_jax.models.qwen3 import Qwen3
from vljepa_jax.objectives import make_objective

MODEL = Qwen3(QWEN3_TWIN)


@pytest.fixture(scope="module")
def params():
    tokens = jnp.zeros((1, 2), jnp.int32)
    return jax.jit(MODEL.init)(jax.random.key(0), tokens, jnp.ones((1, 2), bool))


def test_last_token_is_that_before_the_padding():
    x = jnp.arange(12.0).reshape(2, 3, 2)
    mask = jnp.array([[True, True, False], [True, True, True]])
    np.testing.assert_array_equal(last_token(x, mask), [[2, 3], [10, 11]])
    np.testing.assert_array_equal(last_token(x, jnp.zeros((2, 3), bool)), np.zeros((2, 2)))


def test_padding_changes_nothing(params):
    tokens = np.array([[3, 5, 7, 0, 0]], np.int32)
    mask = tokens > 0
    short = MODEL.apply(params, tokens[:, :3], mask[:, :3])
    np.testing.assert_allclose(MODEL.apply(params, tokens, mask), short, atol=1e-6)
    other = np.where(mask, tokens, 9)
    np.testing.assert_allclose(MODEL.apply(params, other, mask), short, atol=1e-6)


def test_no_token_sees_a_later_one(params):
    tokens, mask = np.array([[3, 5, 7, 9]], np.int32), np.ones((1, 4), bool)
    changed = np.array([[3, 5, 8, 9]], np.int32)
    before, after = (
        MODEL.apply(params, ids, mask, method="contextualise") for ids in (tokens, changed)
    )
    np.testing.assert_allclose(before[:, :2], after[:, :2], atol=1e-6)
    assert np.abs(before - after)[:, 2:].max() > 1e-3


def test_as_y_encoder_of_a_training_config():
    config = tiny_train_config()
    model = dataclasses.replace(config.model, y_encoder=QWEN3_TWIN)
    config = dataclasses.replace(config, model=model)
    assert parse(TrainConfig, as_dict(config)) == config
    shapes, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    assert shapes["y_head"]["kernel"].shape == (18, 16)
    assert "query_norm" in shapes["y_encoder"]["layers"]["attention"]


def test_the_family_says_which_fields_there_are():
    plain = as_dict(tiny_train_config())
    plain["model"]["y_encoder"]["family"] = "mpnet"
    with pytest.raises(ConfigError, match=r"y_encoder.family' is 'mpnet', not one of gemma, qwen3"):
        parse(TrainConfig, plain)
    plain["model"]["y_encoder"]["family"] = "qwen3"
    with pytest.raises(ConfigError, match=r"missing field 'model.y_encoder.rope_theta'"):
        parse(TrainConfig, plain)
