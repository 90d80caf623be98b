"""Pallas' splash attention for TPUs: scores never leave a core, masked blocks are skipped.

Source: jax.experimental.pallas.ops.tpu.splash_attention. Shapes and masks are those of
``attention_kernels``.
"""

from __future__ import annotations

import functools
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljepa_jax.models.attention_kernels import Masks, padded, rounded_up
from vljepa_jax.models.placement import Accelerator

_LANES = 128  # lengths are padded to a multiple of it
_MOST_BLOCK = 1024  # tokens of a block; scores of a block must fit a core's memory


def refusal(query: Array, key: Array, accelerator: Accelerator) -> str | None:
    """Why the kernel does not take these queries and keys there; ``None`` where it does."""
    del query, key  # it takes every shape and dtype of the models
    if accelerator.platform in ("tpu", "cpu"):
        return None
    return f"it is a TPU's kernel, and these devices are {accelerator}"


def attend(
    query, key, value, scale: float, masks: Masks, accelerator: Accelerator
) -> Float[Array, "b t h k"]:
    """Attention; on a CPU in Pallas' interpreter, which is slow."""
    # Only what uses it waits for Pallas to be imported.
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as splash_kernel,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as splash_mask,
    )

    batch, queries, heads, _ = query.shape
    keys = key.shape[1]
    shape = padded_queries, padded_keys = rounded_up(queries, _LANES), rounded_up(keys, _LANES)
    limits = []
    if masks.window is not None:
        limits.append(splash_mask.LocalMask(shape, (masks.window - 1,) * 2, 0))
    if masks.causal:
        limits.append(splash_mask.CausalMask(shape))
    mask = functools.reduce(operator.and_, limits) if limits else splash_mask.FullMask(shape)
    block_q, block_kv = _block(padded_queries), _block(padded_keys)
    kernel = splash_kernel.make_splash_mha(
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
        interpret=accelerator.platform != "tpu",
    )
    inputs = [
        padded(x, length).transpose(0, 2, 1, 3)
        for x, length in (
            (query * jnp.asarray(scale, query.dtype), padded_queries),
            (key, padded_keys),
            (value, padded_keys),
        )
    ]
    lengths = masks.lengths(batch, keys, padded_keys)
    if lengths is None:
        mixed = jax.vmap(kernel)(*inputs)
    else:  # padding is a segment of its own, to which no query belongs
        key_segment = (jnp.arange(padded_keys) < lengths[:, None]).astype(jnp.int32)
        query_segment = jnp.ones((batch, padded_queries), jnp.int32)
        segments = splash_kernel.SegmentIds(query_segment, key_segment)
        mixed = jax.vmap(kernel)(*inputs, segments)
    return mixed.transpose(0, 2, 1, 3)[:, :queries].astype(value.dtype)


def _block(length: int) -> int:
    """The largest block that divides the padded length."""
    return max(
        block
        for block in range(_LANES, min(length, _MOST_BLOCK) + 1, _LANES)
        if length % block == 0
    )
