"""BERT as sentence-transformers trains it: MiniLM, e5, bge.

Source: transformers' models/bert/modeling_bert.py, and sentence-transformers' pooling.

Axes: b batch, t tokens, d width.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.config import BertConfig
from vljepa_jax.models import layers
from vljepa_jax.models.attention import attention
from vljepa_jax.models.placement import by_rows

# Of each mode: tokens [b, t, d] and mask [b, t] -> float32 [b, d]; zero without tokens.
POOLING = {
    "mean": layers.masked_mean,
    "cls": layers.first_token,
    "lasttoken": layers.last_token,
    "max": layers.masked_max,
}


class Bert(nn.Module):
    """Tokens [b, t] -> one vector per text [b, d].

    Attributes:
        config: sizes and pooling.
        dtype: of the computation in the layers; pooling is float32.
        remat: what the backward pass recomputes.
        unroll: compiles every layer on its own.
    """

    config: BertConfig
    dtype: Any = jnp.float32
    remat: layers.Remat = "none"
    unroll: bool = False

    def setup(self):
        config = self.config
        init = layers.embedding_init(config.hidden_size)
        self.token_embedding = layers.TokenTable(
            config.vocab_size, config.hidden_size, dtype=self.dtype, embedding_init=init
        )
        positions = (config.max_length, config.hidden_size)
        self.position_embedding = self.param("position_embedding", init, positions, jnp.float32)
        types = (config.type_vocab_size, config.hidden_size)
        self.type_embedding = self.param("type_embedding", init, types, jnp.float32)
        self.embedding_norm = layers.layer_norm(config.norm_eps, self.dtype)
        stack = layers.scan_layers(
            _Layer, config.num_layers, self.remat, self.unroll, (nn.broadcast,)
        )
        self.layers = stack(config, self.dtype)

    def __call__(self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]) -> Float[Array, "b d"]:
        """Encodes texts.

        Args:
            tokens: [b, t] token ids, at most ``config.max_length``.
            mask: [b, t], False at padding, which stands on the right. A text without tokens gives
                the zero vector.

        Returns:
            float32 [b, d]; unit vectors where the published model ends in a Normalize module.

        Raises:
            ValueError: there are more tokens than the model has positions.
        """
        pooled = POOLING[self.config.pooling](self.contextualise(tokens, mask), mask)
        return layers.l2_normalise(pooled) if self.config.normalised else pooled

    def contextualise(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]
    ) -> Float[Array, "b t d"]:
        """Contextualised tokens; those at padding mean nothing."""
        length = tokens.shape[1]
        layers.check_positions(length, self.config)
        # A text alone is the first segment of a pair.
        places = self.position_embedding[:length] + self.type_embedding[0]
        x = self.token_embedding(tokens) + places.astype(self.dtype)
        x, _ = self.layers(by_rows(self.embedding_norm(x)), layers.lengths(mask))
        return x


class _Layer(nn.Module):
    """Attention and MLP, each followed by the norm of its sum with its input."""

    config: BertConfig
    dtype: Any

    @nn.compact
    def __call__(self, x, lengths):
        config = self.config
        head_size = config.hidden_size // config.num_heads
        norm = functools.partial(layers.layer_norm, config.norm_eps, self.dtype)
        attended = layers.SelfAttention(
            num_heads=config.num_heads,
            num_kv_heads=config.num_heads,
            head_size=head_size,
            num_layers=config.num_layers,
            dtype=self.dtype,
            use_bias=True,
            name="attention",
        )(x, None, functools.partial(attention, scale=head_size**-0.5, key_lengths=lengths))
        x = norm(name="attention_norm")(x + attended)
        mixed = layers.MLP(
            hidden_size=config.mlp_size,
            num_layers=config.num_layers,
            activation=layers.gelu,
            gated=False,
            use_bias=True,
            dtype=self.dtype,
            name="mlp",
        )(x)
        x = norm(name="mlp_norm")(x + mixed)
        self.sow("intermediates", "hidden", x)
        return x, None
