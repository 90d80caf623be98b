"""What computes attention: by XLA in one piece or by chunks, or by a fused kernel.

All give the same results, but for rounding, and follow the shapes and masks of
``attention.attention``; shapes there are [b, t, h, k] for queries and [b, s, g, k] for keys and
values, r = h / g query heads share a key head.
"""

from __future__ import annotations

import functools
import operator

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

_CHUNK = 512  # queries whose scores "chunked" holds at a time
_LANES = 128  # splash: lengths are padded to a multiple of it
_MOST_BLOCK = 1024  # splash: tokens of a block; scores of a block must fit a core's memory


@struct.dataclass
class Masks:
    """What may attend to what.

    Attributes:
        key_mask: [b, s], False at padding; or None.
        causal: only keys j <= i.
        window: only keys with |i - j| < window; or None.
        query_start: position of the first query among the keys; fused kernels take 0 alone.
    """

    key_mask: Bool[Array, "b s"] | None
    causal: bool = struct.field(pytree_node=False, default=False)
    window: int | None = struct.field(pytree_node=False, default=None)
    query_start: int | Int[Array, ""] = 0

    def dense(self, first: int | Array, queries: int, keys: int) -> Array | None:
        """True where the queries from the given one on may see a key: [b or 1, 1, 1, t, s].

        None where all may see all.
        """
        mask = None if self.key_mask is None else self.key_mask[:, None, None, None, :]
        positions = self.query_start + first + jnp.arange(queries)
        distance = positions[:, None] - jnp.arange(keys)[None, :]
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
    batch, queries, heads, size = query.shape
    keys, kv_heads = key.shape[1:3]
    shared = heads // kv_heads
    query = query.reshape(batch, queries, kv_heads, shared, size).transpose(0, 2, 3, 1, 4)
    query = query.reshape(batch, kv_heads, shared * queries, size)
    key, value = key.transpose(0, 2, 1, 3), value.transpose(0, 2, 1, 3)
    scores = scale * jnp.einsum("bgqk,bgsk->bgqs", query, key, preferred_element_type=jnp.float32)
    scores = scores.reshape(batch, kv_heads, shared, queries, keys)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    weights = weights.reshape(batch, kv_heads, shared * queries, keys)
    mixed = jnp.einsum("bgqs,bgsk->bgqk", weights, value)
    mixed = mixed.reshape(batch, kv_heads, shared, queries, size).transpose(0, 3, 1, 2, 4)
    return mixed.reshape(batch, queries, heads, size)


def chunked(query, key, value, scale: float, masks: Masks) -> Float[Array, "b t h k"]:
    """As ``plain``, a chunk of the queries after the other; holds the scores of one chunk.

    The backward pass computes a chunk's scores again.
    """
    batch, queries, heads, size = query.shape
    keys = key.shape[1]
    count = -(-queries // _CHUNK)
    length = -(-queries // count)
    padded = jnp.pad(query, ((0, 0), (0, count * length - queries), (0, 0), (0, 0)))
    chunks = padded.reshape(batch, count, length, heads, size).swapaxes(0, 1)

    @jax.checkpoint
    def one(chunk, first):
        return _scored(chunk, key, value, scale, masks.dense(first, length, keys))

    mixed = jax.lax.map(lambda inputs: one(*inputs), (chunks, length * jnp.arange(count)))
    return mixed.swapaxes(0, 1).reshape(batch, count * length, heads, -1)[:, :queries]


def splash(
    query, key, value, scale: float, masks: Masks, interpret: bool
) -> Float[Array, "b t h k"]:
    """Pallas' splash attention for TPUs: scores never leave a core, masked blocks are skipped.

    Source: jax.experimental.pallas.ops.tpu.splash_attention.

    Args:
        interpret: runs the kernel in Pallas' interpreter, on any device.
    """
    # Only what uses it waits for Pallas to be imported.
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as splash_kernel,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as splash_mask,
    )

    batch, queries, heads, _ = query.shape
    keys = key.shape[1]
    padded_queries, padded_keys = (-(-length // _LANES) * _LANES for length in (queries, keys))
    shape = (padded_queries, padded_keys)
    limits = []
    if masks.window is not None:
        limits.append(splash_mask.LocalMask(shape, (masks.window - 1,) * 2, 0))
    if masks.causal:
        limits.append(splash_mask.CausalMask(shape))
    mask = functools.reduce(operator.and_, limits) if limits else splash_mask.FullMask(shape)
    block_q, block_kv = _block(padded_queries), _block(padded_keys)
    attend = splash_kernel.make_splash_mha(
        splash_mask.MultiHeadMask([mask] * heads),
        block_sizes=splash_kernel.BlockSizes(
            block_q=block_q,
            block_kv=block_kv,
            block_q_dkv=block_q,
            block_kv_dkv=block_kv,
            block_q_dq=block_q,
            block_kv_dq=block_kv,
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )

    def heads_first(x, length):
        x = jnp.pad(x, ((0, 0), (0, length - x.shape[1]), (0, 0), (0, 0)))
        return x.transpose(0, 2, 1, 3)

    inputs = (
        heads_first(query * jnp.asarray(scale, query.dtype), padded_queries),
        heads_first(key, padded_keys),
        heads_first(value, padded_keys),
    )
    key_mask = masks.key_mask
    if key_mask is None and padded_keys > keys:
        key_mask = jnp.ones((batch, keys), bool)
    if key_mask is None:
        mixed = jax.vmap(attend)(*inputs)
    else:  # padding is a segment of its own, to which no query belongs
        key_segment = jnp.pad(key_mask, ((0, 0), (0, padded_keys - keys))).astype(jnp.int32)
        query_segment = jnp.ones((batch, padded_queries), jnp.int32)
        segments = splash_kernel.SegmentIds(query_segment, key_segment)
        mixed = jax.vmap(attend)(*inputs, segments)
    return mixed.transpose(0, 2, 1, 3)[:, :queries].astype(value.dtype)


def _block(length: int) -> int:
    """The largest block that divides the padded length."""
    return max(
        block
        for block in range(_LANES, min(length, _MOST_BLOCK) + 1, _LANES)
        if length % block == 0
    )


def cudnn(query, key, value, scale: float, masks: Masks) -> Float[Array, "b t h k"]:
    """cuDNN's fused attention, on NVIDIA GPUs in half precision."""
    mask = None
    if masks.key_mask is not None:
        mask = masks.key_mask[:, None, None, :]
    if masks.window is not None:  # cuDNN's own windows look back only
        nearby = Masks(None, window=masks.window).dense(0, query.shape[1], key.shape[1])
        mask = nearby[None, None] if mask is None else mask & nearby
    return jax.nn.dot_product_attention(
        query, key, value, mask=mask, scale=scale, is_causal=masks.causal, implementation="cudnn"
    )
