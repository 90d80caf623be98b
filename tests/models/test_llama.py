import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.twins import LLAMA_TWIN
from vljepa_jax.config import RopeScaling
from vljepa_jax.models.llama import KVCache, Llama, scaled_frequencies


@pytest.fixture(scope="module")
def params():
    x = jnp.zeros((1, 2, LLAMA_TWIN.hidden_size))
    return jax.jit(Llama(LLAMA_TWIN).init)(jax.random.key(0), x)["params"]


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def influence(model, params, x):
    """[t, t]: whether the output at row i depends on the input at column j, by gradients."""
    jacobian = jax.jit(jax.jacobian(lambda x: model.apply({"params": params}, x).sum(-1)[0]))(x)
    return np.asarray(jnp.abs(jacobian[:, 0]).sum(-1) > 0)


def test_every_token_sees_every_token_unless_causal(params):
    x = draw(1, 5, LLAMA_TWIN.hidden_size)
    assert influence(Llama(LLAMA_TWIN), params, x).all()
    causal = Llama(dataclasses.replace(LLAMA_TWIN, causal=True))
    np.testing.assert_array_equal(influence(causal, params, x), np.tri(5, dtype=bool))


def test_padding_changes_nothing(params):
    model = jax.jit(Llama(LLAMA_TWIN).apply)
    x = draw(2, 9, LLAMA_TWIN.hidden_size)
    mask = np.arange(9) < np.array([[5], [4]])
    alone = model({"params": params}, x[:, :5], mask[:, :5])
    padded = model({"params": params}, x, mask)
    for row, length in enumerate((5, 4)):
        np.testing.assert_allclose(padded[row, :length], alone[row, :length], atol=1e-6)


@pytest.mark.parametrize("parts", [(7,), (3, 4), (2, 1, 1, 3)])
def test_a_cache_gives_what_the_whole_text_gives(params, parts):
    """Float32 with sums in another order: 1e-5."""
    config = dataclasses.replace(LLAMA_TWIN, causal=True)
    x = draw(2, 7, config.hidden_size)
    whole = jax.jit(Llama(config).apply)({"params": params}, x)
    cache, found, start = KVCache.empty(config, 2, 9, jnp.float32), [], 0  # room for two more
    for length in parts:
        part = x[:, start : start + length]
        out, cache = jax.jit(Llama(config).apply)({"params": params}, part, None, cache)
        found.append(out)
        start += length
    assert cache.lengths.tolist() == [7, 7]
    assert not np.any(cache.key[:, :, 7:])
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole, atol=1e-5)


def test_a_cache_has_rows_of_different_lengths(params):
    """Parts with padding on the right, of which the next part takes the place; 1e-5."""
    config = dataclasses.replace(LLAMA_TWIN, causal=True)
    model = jax.jit(Llama(config).apply)
    x = draw(3, 7, config.hidden_size)
    whole = model({"params": params}, x)
    cache, starts = KVCache.empty(config, 3, 9, jnp.float32), np.zeros(3, int)
    for lengths in ((4, 2, 1), (0, 1, 2), (3, 2, 1)):
        size = max(lengths)
        places = starts[:, None] + np.arange(size)
        part = np.take_along_axis(x, np.minimum(places, 6)[..., None], axis=1)
        mask = np.arange(size) < np.c_[list(lengths)]
        out, cache = model({"params": params}, np.where(mask[..., None], part, 100.0), mask, cache)
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            expected = whole[row, start : start + length]
            np.testing.assert_allclose(out[row, :length], expected, atol=1e-5)
        starts += lengths
        assert cache.lengths.tolist() == starts.tolist()


def test_a_cache_is_refused_where_it_would_be_wrong(params):
    x = draw(1, 3, LLAMA_TWIN.hidden_size)
    cache = KVCache.empty(LLAMA_TWIN, 1, 3, jnp.float32)
    with pytest.raises(ValueError, match="causal layers"):
        Llama(LLAMA_TWIN).apply({"params": params}, x, None, cache)


def test_order_matters(params):
    x = draw(1, 5, LLAMA_TWIN.hidden_size)
    model = jax.jit(Llama(LLAMA_TWIN).apply)
    forward = model({"params": params}, x)
    backward = model({"params": params}, x[:, ::-1])[:, ::-1]
    assert np.abs(forward - backward).max() > 1e-2


def test_frequency_scaling_by_hand():
    scaling = RopeScaling(
        factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192
    )
    turns = np.array([100.0, 4.0, 2.5, 1.0, 0.5])  # within the original context
    frequencies = (turns * 2 * np.pi / 8192).astype(np.float32)
    kept = np.array([1, 1, 0.5 + 0.5 / 32, 1 / 32, 1 / 32])
    np.testing.assert_allclose(scaled_frequencies(frequencies, scaling), frequencies * kept, 1e-6)
    assert scaled_frequencies(frequencies, None) is frequencies
