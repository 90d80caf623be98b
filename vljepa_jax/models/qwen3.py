"""Qwen3-Embedding text encoder.

Source: transformers' models/qwen3/modeling_qwen3.py, and the last-token pooling of the published
sentence-transformers model.

Axes: b batch, t tokens, d width.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.config import Qwen3Config
from vljepa_jax.models import layers
from vljepa_jax.models.attention import attention


class Qwen3(nn.Module):
    """Tokens [b, t] -> one vector per text [b, d].

    Attributes:
        config: sizes.
        dtype: of the computation in the layers; the result is float32.
        remat: what the backward pass recomputes.
        unroll: compiles every layer on its own.
    """

    config: Qwen3Config
    dtype: Any = jnp.float32
    remat: layers.Remat = "none"
    unroll: bool = False

    def setup(self):
        config = self.config
        self.token_embedding = layers.TokenTable(
            config.vocab_size,
            config.hidden_size,
            dtype=self.dtype,
            embedding_init=layers.embedding_init(config.hidden_size),
        )
        stack = layers.scan_layers(
            _Layer, config.num_layers, self.remat, self.unroll, (nn.broadcast, nn.broadcast)
        )
        self.layers = stack(config, self.dtype)
        self.norm = layers.RMSNorm(config.norm_eps, self.dtype)

    def __call__(self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]) -> Float[Array, "b d"]:
        """Encodes texts; the result is not normalised.

        Args:
            tokens: [b, t] token ids. The published model wants <|endoftext|> at a text's end,
                which its tokenizer appends.
            mask: [b, t], False at padding, which stands on the right. A text without tokens gives
                the zero vector.

        Returns:
            float32 [b, d]: the text's last token.
        """
        return layers.last_token(self.contextualise(tokens, mask), mask)

    def contextualise(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]
    ) -> Float[Array, "b t d"]:
        """Contextualised tokens after the final norm; those at padding mean nothing."""
        config = self.config
        frequencies = layers.rotary_frequencies(config.rope_theta, config.head_size)
        rotary = layers.text_rotary(tokens.shape[1], frequencies)
        x, _ = self.layers(self.token_embedding(tokens), rotary, layers.lengths(mask))
        return self.norm(x)


class _Layer(nn.Module):
    config: Qwen3Config
    dtype: Any

    @nn.compact
    def __call__(self, x, rotary, lengths):
        config = self.config
        norm = functools.partial(layers.RMSNorm, config.norm_eps, self.dtype)
        x += layers.SelfAttention(
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_size=config.head_size,
            num_layers=config.num_layers,
            dtype=self.dtype,
            qk_norm_eps=config.norm_eps,
            name="attention",
        )(
            norm(name="attention_norm")(x),
            rotary,
            functools.partial(
                attention, scale=config.head_size**-0.5, key_lengths=lengths, causal=True
            ),
        )
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
