import numpy as np
import pytest

from vljepa_jax.models.attention import attention


def draw(batch=2, queries=7, keys=7, heads=6, kv_heads=2, size=4):
    rng = np.random.default_rng(0)
    shapes = [(batch, queries, heads, size)] + 2 * [(batch, keys, kv_heads, size)]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def by_hand(query, key, value, scale, allowed):
    """One head, one query, one key at a time."""
    batch, queries, heads, _ = query.shape
    shared = heads // key.shape[2]
    out = np.zeros_like(query)
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                seen = [j for j in range(key.shape[1]) if allowed(b, i, j)]
                scores = np.array([query[b, i, h] @ key[b, j, h // shared] * scale for j in seen])
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                out[b, i, h] = weights @ value[b, seen, h // shared]
    return out


MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]], bool)


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, lambda b, i, j: True),
        ({"key_mask": MASK}, lambda b, i, j: MASK[b, j]),
        ({"causal": True}, lambda b, i, j: j <= i),
        ({"window": 3}, lambda b, i, j: abs(i - j) < 3),
        (
            {"key_mask": MASK, "causal": True, "window": 5},
            lambda b, i, j: MASK[b, j] and j <= i and i - j < 5,
        ),
    ],
)
def test_equals_attention_by_hand(settings, allowed):
    query, key, value = draw()
    found = attention(query, key, value, scale=0.7, **settings)
    np.testing.assert_allclose(found, by_hand(query, key, value, 0.7, allowed), atol=1e-5)


def test_masked_keys_change_nothing():
    query, key, value = draw()
    other_key, other_value = np.where(MASK[..., None, None], (key, value), 1e3)
    first = attention(query, key, value, scale=1.0, key_mask=MASK)
    second = attention(query, other_key, other_value, scale=1.0, key_mask=MASK)
    np.testing.assert_array_equal(first, second)


def test_row_without_keys_is_finite():
    query, key, value = draw()
    assert np.isfinite(attention(query, key, value, scale=1.0, key_mask=MASK & False)).all()


def test_softmax_is_float32_under_bfloat16():
    query, key, value = draw(queries=3, keys=300)
    half = [array.astype("bfloat16") for array in (query, key, np.ones_like(value))]
    found = attention(*half, scale=0.0)
    assert found.dtype == half[0].dtype
    np.testing.assert_allclose(np.asarray(found, np.float32), 1.0, rtol=1e-2)


def test_heads_that_do_not_divide_are_refused():
    query, key, value = draw(heads=5)
    with pytest.raises(ValueError, match="5 query heads"):
        attention(query, key, value, scale=1.0)
