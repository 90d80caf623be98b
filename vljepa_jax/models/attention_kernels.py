"""Masks of attention, and what computes it by XLA: in one piece, or by chunks.

All kernels, the fused ones included, give the same results but for rounding, and follow the shapes
and masks of ``attention.attention``; shapes there are [b, t, h, k] for queries and [b, s, g, k] for
keys and values, r = h / g query heads share a key head.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import struct
from jaxtyping import Array, Float, Int

_CHUNK = 512  # queries whose scores "chunked" holds at a time


@struct.dataclass
class Masks:
    """A mask: which keys each query may attend to.

    Attributes:
        key_lengths: [b], how many keys of each row there are, the others being padding; or None.
        causal: only keys j <= i.
        window: only keys with |i - j| < window; or None.
        query_start: position of the first query among the keys, of all rows or of each; fused
            kernels take 0 alone.
    """

    key_lengths: Int[Array, " b"] | None
    causal: bool = struct.field(pytree_node=False, default=False)
    window: int | None = struct.field(pytree_node=False, default=None)
    query_start: int | Int[Array, " b"] = 0

    def lengths(self, batch: int, keys: int, padded_keys: int) -> Int[Array, " b"] | None:
        """How many keys of each row there are where they are padded to ``padded_keys``."""
        if self.key_lengths is None and padded_keys > keys:
            return jnp.full(batch, keys, jnp.int32)
        return self.key_lengths

    def dense(self, first: int | Array, queries: int, keys: int) -> Array | None:
        """True where the queries from the given one on may see a key: [b or 1, 1, 1, t, s].

        None where all may see all.
        """
        mask = None
        if self.key_lengths is not None:
            mask = jnp.arange(keys) < self.key_lengths[:, None, None, None, None]
        positions = jnp.expand_dims(self.query_start, -1) + first + jnp.arange(queries)
        distance = positions[..., None] - jnp.arange(keys)
        if jnp.ndim(self.query_start):
            distance = distance[:, None, None]  # as the scores [b, g, r, t, s]
        for wanted, near in (
            (self.causal, distance >= 0),
            (self.window is not None, jnp.abs(distance) < (self.window or 0)),
        ):
            if wanted:
                mask = near if mask is None else mask & near
        return mask


def plain(query, key, value, scale: float, masks: Masks) -> Float[Array, "b t h k"]:
    """Two matrix products around a softmax, left to XLA; holds the scores [b, g, r, t, s]."""
    mask = masks.dense(0, query.shape[1], key.shape[1])
    return _scored(query, key, value, scale, mask)


def _scored(query, key, value, scale, mask):
    """``plain`` with its mask.

    Heads are moved to the front first, and those that share a key head stand below each other, so
    that both products are plain batches of matrices. Given the heads inside, XLA's CPU backend
    takes about twice as long for V-JEPA 2's 1,024 or 2,048 tokens.
    """
    queries, key_heads = query.shape[1], key.shape[2]
    query = rearrange(query, "b t (g r) k -> b g (r t) k", g=key_heads)
    key, value = (rearrange(x, "b s g k -> b g s k") for x in (key, value))
    scores = scale * jnp.einsum("bgqk,bgsk->bgqs", query, key, preferred_element_type=jnp.float32)
    scores = rearrange(scores, "b g (r t) s -> b g r t s", t=queries)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    weights = rearrange(weights, "b g r t s -> b g (r t) s")
    mixed = jnp.einsum("bgqs,bgsk->bgqk", weights, value)
    return rearrange(mixed, "b g (r t) k -> b t (g r) k", t=queries)


def by_heads(query, key, value, scale: float, masks: Masks) -> Float[Array, "b t h k"]:
    """As ``plain``, one key head of one row after the other, whose scores stay in a CPU's cache.

    What is mixed, and not the scores, is divided by the sums of the softmax, a pass over the scores
    less. ``query_start`` is a number. Where it is differentiated it is ``plain``.
    """
    rows, queries = query.shape[:2]
    key_heads = key.shape[2]
    lengths = masks.key_lengths

    def one(head):
        query, key, value, length = head
        mask = masks.replace(key_lengths=length).dense(0, queries, key.shape[0])
        scores = scale * jnp.einsum("rtk,sk->rts", query, key, preferred_element_type=jnp.float32)
        if mask is not None:
            mask = mask.reshape(mask.shape[-2:])
            scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
        weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
        mixed = jnp.einsum(
            "rts,sk->rtk", weights.astype(value.dtype), value, preferred_element_type=jnp.float32
        )
        return (mixed / jnp.sum(weights, axis=-1, keepdims=True)).astype(value.dtype)

    @jax.custom_vjp
    def attend(query, key, value, lengths):
        query = rearrange(query, "b t (g r) k -> (b g) r t k", g=key_heads)
        key, value = (rearrange(x, "b s g k -> (b g) s k") for x in (key, value))
        if lengths is not None:
            lengths = repeat(lengths, "b -> (b g) 1", g=key_heads)
        mixed = jax.lax.map(one, (query, key, value, lengths))
        return rearrange(mixed, "(b g) r t k -> b t (g r) k", b=rows)

    def forward(query, key, value, lengths):
        given = masks.replace(key_lengths=lengths)
        return jax.vjp(lambda *inputs: plain(*inputs, scale, given), query, key, value)

    attend.defvjp(forward, lambda pull_back, cotangent: (*pull_back(cotangent), None))
    return attend(query, key, value, lengths)


def chunked(query, key, value, scale: float, masks: Masks) -> Float[Array, "b t h k"]:
    """As ``plain``, a chunk of the queries after the other; holds the scores of one chunk.

    The backward pass computes a chunk's scores again.
    """
    queries, keys = query.shape[1], key.shape[1]
    count = -(-queries // _CHUNK)
    length = -(-queries // count)
    chunks = rearrange(padded(query, count * length), "b (c t) h k -> c b t h k", c=count)

    @jax.checkpoint
    def one(chunk, first):
        return _scored(chunk, key, value, scale, masks.dense(first, length, keys))

    mixed = jax.lax.map(lambda inputs: one(*inputs), (chunks, length * jnp.arange(count)))
    return rearrange(mixed, "c b t h k -> b (c t) h k")[:, :queries]


def rounded_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def padded(x: Float[Array, "b t h k"], length: int) -> Float[Array, "b length h k"]:
    """With tokens of zeros up to this length."""
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1]), (0, 0), (0, 0)))
