import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.twins import GEMMA_TWIN
from vljepa_jax.models.gemma import Gemma


@functools.cache
def build(**changes):
    config = dataclasses.replace(GEMMA_TWIN, **changes)
    model = Gemma(config)
    inputs = (jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool))
    return model, jax.jit(model.init)(jax.random.key(0), *inputs)["params"]


@functools.cache
def encoder(model):
    return jax.jit(lambda params, tokens, mask: model.apply({"params": params}, tokens, mask))


def reached(model, params, length):
    """[t, t]: whether the token at row i changes when the token at column j does."""
    mask = jnp.ones((1, length), bool)
    tokens = jnp.arange(1, length + 1)[None]
    embedding = params["token_embedding"]["embedding"]

    def states(rows):
        table = embedding.at[tokens[0]].set(rows)
        tree = params | {"token_embedding": {"embedding": table}}
        return model.apply({"params": tree}, tokens, mask, method="contextualise").sum(-1)[0]

    jacobian = jax.jit(jax.jacobian(states))(embedding[tokens[0]])
    return np.asarray(jnp.abs(jacobian).sum(-1) > 0)


def test_local_layers_see_a_two_sided_window():
    model, params = build(num_layers=1, global_every=3)  # window 6: |i - j| < 4
    i, j = np.indices((9, 9))
    np.testing.assert_array_equal(reached(model, params, 9), abs(i - j) < 4)


def test_global_layers_see_everything():
    model, params = build(num_layers=1, global_every=1)
    assert reached(model, params, 9).all()


@pytest.mark.parametrize("length", [3, 8])  # within the window and beyond it
def test_padding_changes_nothing(length):
    model, params = build()
    tokens = np.random.default_rng(0).integers(1, 29, (3, 12)).astype(np.int32)
    mask = np.arange(12) < np.array([[length], [2], [1]])
    alone = encoder(model)(params, tokens[:, :length], mask[:, :length])
    padded = encoder(model)(params, tokens, mask)
    other = encoder(model)(params, np.where(mask, tokens, 28), mask)
    np.testing.assert_allclose(padded, alone, atol=1e-6)
    np.testing.assert_array_equal(padded, other)


def test_text_without_tokens_gives_the_zero_vector():
    model, params = build()
    found = encoder(model)(params, jnp.ones((2, 5), jnp.int32), jnp.zeros((2, 5), bool))
    np.testing.assert_array_equal(found, 0.0)


def test_dense_layers_can_be_dropped():
    model, params = build(dense_sizes=())
    assert not any(name.startswith("dense") for name in params)
    found = encoder(model)(params, jnp.ones((1, 3), jnp.int32), jnp.ones((1, 3), bool))
    assert found.shape == (1, GEMMA_TWIN.hidden_size)
