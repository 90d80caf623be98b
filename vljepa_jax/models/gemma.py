"""EmbeddingGemma text encoder.

Source: transformers' models/gemma3/modeling_gemma3.py with ``use_bidirectional_attention``, and the
pooling and dense modules of the published sentence-transformers model.

Axes: b batch, t tokens, d width, e width after the dense layers.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.config import GemmaConfig
from vljepa_jax.models import layers
from vljepa_jax.models.attention import attention
from vljepa_jax.models.products import Dense


class Gemma(nn.Module):
    """Tokens [b, t] -> one vector per text [b, e].

    Attributes:
        config: sizes.
        dtype: of the computation in the layers; pooling and dense layers are float32.
        remat: what the backward pass recomputes.
        unroll: compiles every layer on its own.
    """

    config: GemmaConfig
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
            _Layer,
            config.num_layers,
            self.remat,
            self.unroll,
            (0, nn.broadcast, nn.broadcast, nn.broadcast),
        )
        self.layers = stack(config, self.dtype)
        self.norm = layers.RMSNorm(config.norm_eps, self.dtype, zero_centred=True)
        self.dense = [
            Dense(size, use_bias=False, kernel_init=layers.kernel_init)
            for size in config.dense_sizes
        ]

    def __call__(self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]) -> Float[Array, "b e"]:
        """Encodes texts; the result is not normalised.

        Args:
            tokens: [b, t] token ids.
            mask: [b, t], False at padding, which stands on the right. A text without tokens gives
                the zero vector.

        Returns:
            float32 [b, e]: the mean over the text's tokens, through the dense layers.
        """
        x = layers.masked_mean(self.contextualise(tokens, mask), mask)
        for dense in self.dense:
            x = dense(x)
        return x

    def contextualise(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]
    ) -> Float[Array, "b t d"]:
        """Contextualised tokens after the final norm; those at padding mean nothing."""
        config = self.config
        x = self.token_embedding(tokens) * jnp.asarray(config.hidden_size**0.5, self.dtype)
        rotaries = tuple(
            layers.text_rotary(tokens.shape[1], layers.rotary_frequencies(theta, config.head_size))
            for theta in (config.rope_theta_local, config.rope_theta_global)
        )
        is_global = (np.arange(config.num_layers) + 1) % config.global_every == 0
        x, _ = self.layers(x, jnp.asarray(is_global), *rotaries, layers.lengths(mask))
        return self.norm(x)


class _Layer(nn.Module):
    config: GemmaConfig
    dtype: Any

    @nn.compact
    def __call__(self, x, is_global, local_rotary, global_rotary, lengths):
        config = self.config
        norm = functools.partial(layers.RMSNorm, config.norm_eps, self.dtype, zero_centred=True)
        rotary = jax.tree.map(
            lambda ours, theirs: jnp.where(is_global, theirs, ours), local_rotary, global_rotary
        )
        attended = layers.SelfAttention(
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_size=config.head_size,
            num_layers=config.num_layers,
            dtype=self.dtype,
            qk_norm_eps=config.norm_eps,
            qk_norm_zero_centred=True,
            name="attention",
        )(norm(name="attention_norm")(x), rotary, self._attend(is_global, x.shape[1], lengths))
        x += norm(name="attention_post_norm")(attended)
        mixed = layers.MLP(
            hidden_size=config.mlp_size,
            num_layers=config.num_layers,
            activation=functools.partial(jax.nn.gelu, approximate=True),
            gated=True,
            use_bias=False,
            dtype=self.dtype,
            name="mlp",
        )(norm(name="mlp_norm")(x))
        x += norm(name="mlp_post_norm")(mixed)
        self.sow("intermediates", "hidden", x)
        return x, None

    def _attend(self, is_global, length, lengths):
        config = self.config
        everywhere = functools.partial(
            attention, scale=config.query_scale**-0.5, key_lengths=lengths
        )
        window = config.sliding_window // 2 + 1
        if length <= window:  # no two tokens are further apart: local layers see all
            return everywhere
        nearby = functools.partial(everywhere, window=window)
        # A branch, not a mask that depends on the layer: each side keeps its structure.
        return lambda *qkv: jax.lax.cond(is_global, everywhere, nearby, *qkv)
