"""Llama-3 layers: the predictor (bidirectional) and text decoders (causal).

Source: transformers' models/llama/modeling_llama.py and, for the frequency scaling, its
modeling_rope_utils.py. The token table is apart (``layers.TokenTable``), since VL-JEPA freezes it.

Axes: b batch, t tokens, s positions with room in a cache, d width, l layers, g key/value heads,
k head size.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.config import LlamaConfig, RopeScaling
from vljepa_jax.models import layers
from vljepa_jax.models.attention import attention


@struct.dataclass
class KVCache:
    """Keys and values of the positions so far, in arrays that have room for all.

    Attributes:
        key: [l, b, s, g, k], rotated; what stands after a row's length is never attended to.
        value: [l, b, s, g, k].
        lengths: [b], positions written in each row.
    """

    key: Float[Array, "l b s g k"]
    value: Float[Array, "l b s g k"]
    lengths: Int[Array, " b"]

    @classmethod
    def empty(cls, config: LlamaConfig, rows: int, room: int, dtype: Any) -> KVCache:
        """No positions, with room for ``room`` of them."""
        shape = (config.num_layers, rows, room, config.num_kv_heads, config.head_size)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(rows, jnp.int32))

    def take(self, rows: Int[Array, " r"]) -> KVCache:
        """The cache of these rows, in this order."""
        return KVCache(self.key[:, rows], self.value[:, rows], self.lengths[rows])


class Llama(nn.Module):
    """Embedded tokens [b, t, d] -> contextualised tokens [b, t, d], after the final norm.

    Attributes:
        config: sizes, and whether the mask is causal.
        dtype: of the computation.
        remat: what the backward pass recomputes.
        unroll: compiles every layer on its own.
    """

    config: LlamaConfig
    dtype: Any = jnp.float32
    remat: layers.Remat = "none"
    unroll: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "b t"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Array, "b t d"] | tuple[Float[Array, "b t d"], KVCache]:
        """Runs the layers over positions 0 .. t - 1, or over those that follow a cache.

        Args:
            x: [b, t, d].
            mask: [b, t], False at padding, which stands on the right and which no token attends
                to; None for no padding. The results at padding mean nothing.
            cache: of the positions before these, in each row as many as it has; there must be room
                for t more, which nothing checks. Padding does not join it. Only causal layers have
                one.

        Returns:
            [b, t, d]; with a cache also the cache that these positions have joined.

        Raises:
            ValueError: a cache comes with layers that are not causal.
        """
        config = self.config
        if cache is not None and not config.causal:
            raise ValueError("a cache is for causal layers")
        rotary = layers.text_rotary(
            x.shape[1] if cache is None else cache.key.shape[2],
            scaled_frequencies(
                layers.rotary_frequencies(config.rope_theta, config.head_size), config.rope_scaling
            ),
        )
        stack = layers.scan_layers(
            _Layer,
            config.num_layers,
            self.remat,
            self.unroll,
            (nn.broadcast, nn.broadcast, nn.broadcast, 0),
        )
        lengths = None if mask is None else layers.lengths(mask)
        start = kept = None
        if cache is not None:
            start, kept = cache.lengths, (cache.key, cache.value)
            rotary = rotary.at(start[:, None] + jnp.arange(x.shape[1]))
        x, kept = stack(config, self.dtype, name="layers")(
            x.astype(self.dtype), rotary, lengths, start, kept
        )
        x = layers.RMSNorm(config.norm_eps, self.dtype, name="norm")(x)
        if cache is None:
            return x
        return x, KVCache(*kept, start + (x.shape[1] if lengths is None else lengths))


class _Layer(nn.Module):
    config: LlamaConfig
    dtype: Any

    @nn.compact
    def __call__(self, x, rotary, lengths, start, kept):
        config = self.config
        norm = functools.partial(layers.RMSNorm, config.norm_eps, self.dtype)

        def attend(query, key, value):
            nonlocal kept
            attend = functools.partial(
                attention, query, scale=config.head_size**-0.5, causal=config.causal
            )
            if kept is None:
                return attend(key, value, key_lengths=lengths)
            key, value = kept = tuple(
                _put_rows(old, new, start) for old, new in zip(kept, (key, value), strict=True)
            )
            # No token attends to padding, which stands behind all tokens of its row.
            return attend(key, value, query_start=start)

        x += layers.SelfAttention(
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_size=config.head_size,
            num_layers=config.num_layers,
            dtype=self.dtype,
            name="attention",
        )(norm(name="attention_norm")(x), rotary, attend)
        x += layers.MLP(
            hidden_size=config.mlp_size,
            num_layers=config.num_layers,
            activation=jax.nn.silu,
            gated=True,
            use_bias=False,
            dtype=self.dtype,
            name="mlp",
        )(norm(name="mlp_norm")(x))
        self.sow("intermediates", "hidden", x)
        return x, kept


def _put_rows(
    kept: Float[Array, "b s g k"], new: Float[Array, "b t g k"], start: Int[Array, " b"]
) -> Float[Array, "b s g k"]:
    """``kept`` with ``new`` from position ``start`` of each row on."""
    put = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=0)
    return jax.vmap(put)(kept, new.astype(kept.dtype), start)


def scaled_frequencies(frequencies: np.ndarray, scaling: RopeScaling | None) -> np.ndarray:
    """Llama-3's scaling: slow frequencies are divided by ``factor``, fast ones stay.

    Between the two wavelengths the division fades in.

    Args:
        frequencies: [k / 2], angles per position.
        scaling: None leaves the frequencies.

    Returns:
        float32 [k / 2].
    """
    if scaling is None:
        return frequencies
    turns = scaling.original_max_positions * frequencies / np.float32(2 * np.pi)
    fast = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    fast = np.clip(fast, 0.0, 1.0)
    return ((1 - fast) * frequencies / scaling.factor + fast * frequencies).astype(np.float32)
