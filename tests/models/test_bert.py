import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.published_twins import bert_config
from tests.helpers.twins import BERT_TWIN
from vljepa_jax.config import TrainConfig, as_dict, parse
from vljepa_jax.models.bert import POOLING, Bert
from vljepa_jax.objectives import make_objective


@pytest.mark.parametrize("pooling", POOLING)
def test_padding_changes_nothing_and_no_text_is_zero(pooling):
    model = Bert(dataclasses.replace(BERT_TWIN, pooling=pooling))
    tokens = np.array([[3, 5, 7, 0, 0], [0, 0, 0, 0, 0]], np.int32)
    mask = tokens > 0
    params = jax.jit(model.init)(jax.random.key(0), tokens, mask)
    found = model.apply(params, np.where(mask, tokens, 9), mask)
    np.testing.assert_allclose(
        found[0], model.apply(params, tokens[:1, :3], mask[:1, :3])[0], atol=1e-6
    )
    np.testing.assert_allclose(jnp.linalg.norm(found[0]), 1, atol=1e-6)
    assert not np.any(found[1])


def test_pooling_by_hand():
    x = jnp.array([[[1.0, -4], [3, -2], [9, 9]]])
    mask = jnp.array([[True, True, False]])
    expected = {"mean": [2, -3], "cls": [1, -4], "lasttoken": [3, -2], "max": [3, -2]}
    for name, value in expected.items():
        np.testing.assert_array_equal(POOLING[name](x, mask), [value], err_msg=name)


def test_more_tokens_than_positions():
    tokens, mask = jnp.ones((1, 41), jnp.int32), jnp.ones((1, 41), bool)
    with pytest.raises(ValueError, match="41 tokens, where a text of bert has at most 40"):
        Bert(BERT_TWIN).init(jax.random.key(0), tokens, mask)


def test_as_y_encoder_of_a_training_config(tmp_path):
    config = bert_config(tmp_path)
    assert parse(TrainConfig, as_dict(config)) == config
    shapes, _ = jax.eval_shape(make_objective(config).init, jax.random.key(0))
    assert shapes["y_head"]["kernel"].shape == (18, 16)
    assert shapes["y_encoder"]["type_embedding"].shape == (2, 18)
