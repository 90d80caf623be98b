"""Llama-3 layers: the predictor (bidirectional) and text decoders (causal).

Source: transformers' models/llama/modeling_llama.py and, for the frequency scaling, its
modeling_rope_utils.py. The token table is apart (``layers.TokenTable``), since VL-JEPA freezes it.

Axes: b batch, t tokens, d width, k head size.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from vljepa_jax.config import LlamaConfig, RopeScaling
from vljepa_jax.models import layers
from vljepa_jax.models.attention import attention


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
        self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"] | None = None
    ) -> Float[Array, "b t d"]:
        """Runs the layers over positions 0 .. t - 1.

        Args:
            x: [b, t, d].
            mask: [b, t], False at padding, which no token attends to; None for no padding. The
                results at padding mean nothing.

        Returns:
            [b, t, d].
        """
        config = self.config
        rotary = layers.text_rotary(
            x.shape[1],
            scaled_frequencies(
                layers.rotary_frequencies(config.rope_theta, config.head_size), config.rope_scaling
            ),
        )
        stack = layers.scan_layers(
            _Layer, config.num_layers, self.remat, self.unroll, (nn.broadcast, nn.broadcast)
        )
        x, _ = stack(config, self.dtype, name="layers")(x.astype(self.dtype), rotary, mask)
        return layers.RMSNorm(config.norm_eps, self.dtype, name="norm")(x)


class _Layer(nn.Module):
    config: LlamaConfig
    dtype: Any

    @nn.compact
    def __call__(self, x, rotary, mask):
        config = self.config
        norm = functools.partial(layers.RMSNorm, config.norm_eps, self.dtype)
        attend = functools.partial(
            attention, scale=config.head_size**-0.5, key_mask=mask, causal=config.causal
        )
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
        return x, None


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
