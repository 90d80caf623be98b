"""The one entry to attention; which kernel computes it is decided here and nowhere else.

Axes: b batch, t query tokens, s key tokens, h query heads, g key/value heads (h is a multiple
of g), r = h / g query heads that share a key/value head, k head size.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def attention(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s g k"],
    value: Float[Array, "b s g k"],
    *,
    scale: float,
    key_mask: Bool[Array, "b s"] | None = None,
    causal: bool = False,
    window: int | None = None,
    query_start: int | Int[Array, ""] = 0,
) -> Float[Array, "b t h k"]:
    """Scaled dot-product attention with grouped key/value heads and a float32 softmax.

    What may attend to what is said in structure (padding, causal, window) and not as a dense mask,
    so that a fused kernel can skip what is masked; positions j of keys count from 0, positions i of
    queries from ``query_start``.

    Args:
        query: [b, t, h, k], already rotated.
        key: [b, s, g, k], already rotated.
        value: [b, s, g, k].
        scale: multiplies the scores.
        key_mask: [b, s], False at padding. A row without any True key averages all values, which
            is finite; its result means nothing and the caller must not use it.
        causal: only keys j <= i.
        window: only keys with |i - j| < window (two-sided).
        query_start: position of the first query among the keys; above 0 where the keys of earlier
            positions were kept.

    Returns:
        [b, t, h, k] in the dtype of ``value``.

    Raises:
        ValueError: the query heads cannot be shared out evenly among the key/value heads.
    """
    heads, kv_heads = query.shape[2], key.shape[2]
    if heads % kv_heads:
        raise ValueError(f"attention: {heads} query heads do not divide over {kv_heads} key heads")
    return _plain_attention(query, key, value, scale, key_mask, causal, window, query_start)


def _plain_attention(query, key, value, scale, key_mask, causal, window, query_start):
    """Two matrix products around a softmax, left to XLA; holds the scores [b, g, r, t, s].

    Heads are moved to the front first, and those that share a key head stand below each other, so
    that both products are plain batches of matrices. Given the heads inside, XLA's CPU backend
    takes about twice as long for V-JEPA 2's 1,024 or 2,048 tokens.
    """
    batch, queries, heads, size = query.shape
    keys, kv_heads = key.shape[1:3]
    shared = heads // kv_heads
    query = query.reshape(batch, queries, kv_heads, shared, size).transpose(0, 2, 3, 1, 4)
    query = query.reshape(batch, kv_heads, shared * queries, size)
    key, value = key.transpose(0, 2, 1, 3), value.transpose(0, 2, 1, 3)
    scores = scale * jnp.einsum("bgqk,bgsk->bgqs", query, key, preferred_element_type=jnp.float32)
    scores = scores.reshape(batch, kv_heads, shared, queries, keys)
    mask = _mask(queries, keys, key_mask, causal, window, query_start)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    weights = weights.reshape(batch, kv_heads, shared * queries, keys)
    mixed = jnp.einsum("bgqs,bgsk->bgqk", weights, value)
    mixed = mixed.reshape(batch, kv_heads, shared, queries, size).transpose(0, 3, 1, 2, 4)
    return mixed.reshape(batch, queries, heads, size)


def _mask(queries, keys, key_mask, causal, window, query_start) -> Bool[Array, "b 1 1 t s"] | None:
    """True where a query may see a key; None where all may see all. Broadcasts over b."""
    mask = None if key_mask is None else key_mask[:, None, None, None, :]
    distance = query_start + jnp.arange(queries)[:, None] - jnp.arange(keys)[None, :]
    if causal:
        mask = _both(mask, distance >= 0)
    if window is not None:
        mask = _both(mask, jnp.abs(distance) < window)
    return mask


def _both(mask, other):
    return other if mask is None else mask & other
