"""Probe: questions about a clip, answered from an X-Encoder's tokens with one of a set of labels.

The attentive pooler is V-JEPA 2's (facebookresearch/vjepa2, src/models/attentive_pooler.py;
transformers' VJEPA2AttentivePooler). As in V-JEPA 2's probe for EPIC-KITCHENS, one pooler serves
several label sets, with a learned query vector and a linear classifier for each. Ours: the pooler
may be told the question, since a question about a clip of several objects names one of them.

Axes: b batch, T frames, H height and W width in pixels, n visual tokens, q questions a clip, t
tokens of a question, d width of the X-Encoder, h heads, k head size, c labels of all sets together.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.config import AttentivePoolerConfig, ProbeConfig
from vljepa_jax.models import layers
from vljepa_jax.models.attention import attention
from vljepa_jax.models.products import Dense
from vljepa_jax.models.video_encoder import make_video_encoder
from vljepa_jax.models.vit_layer import Layer


class Probe(nn.Module):
    """Video and questions -> logits over the labels of the question's own set.

    Attributes:
        config: the X-Encoder and what stands on it.
    """

    config: ProbeConfig

    def setup(self):
        config = self.config
        dtype = jnp.dtype(config.dtype)
        width = config.x_encoder.hidden_size
        sets = len(config.label_sets)
        self.x_encoder = make_video_encoder(config)
        if config.pooler is not None:
            self.pooler = AttentivePooler(config.pooler, dtype, config.remat, config.unroll_layers)
            # Upstream's scale of the learned query.
            self.set_query = nn.Embed(sets, width, embedding_init=nn.initializers.normal(0.02))
            if config.pooler.query_vocab_size:
                # The mean of some words has about the scale of a normalised visual token.
                self.token_embedding = layers.TokenTable(
                    config.pooler.query_vocab_size, width, embedding_init=layers.embedding_init(1)
                )
        self.classifier = Dense(
            sum(config.label_sets.values()), dtype=jnp.float32, kernel_init=layers.kernel_init
        )

    def __call__(self, batch: Mapping[str, Array]) -> Float[Array, "b q c"]:
        """Answers.

        Args:
            batch: "video" uint8 [b, T, H, W, 3] or "visual_tokens" [b, n, d]; "label_set" [b, q],
                indices into the sorted names of the label sets; where the pooler is told the
                question, "query_tokens" and "query_mask" [b, q, t].

        Returns:
            float32 [b, q, c], the label sets side by side in the order of their names; -inf for
            the labels of other sets than the question's.
        """
        if "visual_tokens" in batch:
            tokens = batch["visual_tokens"]
        else:
            tokens = self.x_encoder(batch["video"])
        label_set = batch["label_set"]
        if self.config.pooler is None:
            pooled = jnp.mean(tokens.astype(jnp.float32), axis=1, keepdims=True)
            logits = self.classifier(pooled)
        else:
            queries = self.set_query(label_set)
            if self.config.pooler.query_vocab_size:
                queries += self._question(batch["query_tokens"], batch["query_mask"])
            logits = self.classifier(self.pooler(tokens, queries))
        own = jnp.asarray(set_of_label(self.config)) == label_set[..., None]
        return jnp.where(own, logits, -jnp.inf)

    def _question(
        self, tokens: Int[Array, "b q t"], mask: Bool[Array, "b q t"]
    ) -> Float[Array, "b q d"]:
        """The mean of the question's words."""
        tokens_of_all, mask_of_all = (rearrange(x, "b q t -> (b q) t") for x in (tokens, mask))
        mean = layers.masked_mean(self.token_embedding(tokens_of_all), mask_of_all)
        return rearrange(mean, "(b q) d -> b q d", b=len(tokens))


def set_of_label(config: ProbeConfig) -> Int[np.ndarray, " c"]:
    """The label set (its place among the sorted names) of each column of the logits."""
    names = sorted(config.label_sets)
    return np.repeat(np.arange(len(names)), [config.label_sets[name] for name in names])


class AttentivePooler(nn.Module):
    """Each query gathers from all tokens, by itself.

    Attributes:
        config: sizes; the width is that of the tokens.
        dtype: of the computation.
        remat: what the backward pass recomputes.
        unroll: compiles every layer on its own.
    """

    config: AttentivePoolerConfig
    dtype: Any = jnp.float32
    remat: layers.Remat = "none"
    unroll: bool = False

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "b n d"], queries: Float[Array, "b q d"]
    ) -> Float[Array, "b q d"]:
        """Pools.

        Args:
            tokens: [b, n, d] of the X-Encoder; they carry their positions.
            queries: [b, q, d].
        """
        config = self.config
        width = tokens.shape[-1]
        norm = functools.partial(layers.layer_norm, config.norm_eps, self.dtype)
        project = functools.partial(Dense, width, dtype=self.dtype, kernel_init=layers.kernel_init)

        def heads(name: str, x: Float[Array, "b n d"]) -> Float[Array, "b n h k"]:
            return rearrange(project(name=name)(x), "b n (h k) -> b n h k", h=config.num_heads)

        x = tokens.astype(self.dtype)
        if config.num_layers:
            stack = layers.scan_layers(
                Layer, config.num_layers, self.remat, self.unroll, (nn.broadcast,)
            )
            x, _ = stack(config, self.dtype, name="layers")(x, None)
        x = norm(name="token_norm")(x)
        # Upstream's cross-attention has no output projection.
        gathered = attention(
            heads("query", queries),
            heads("key", x),
            heads("value", x),
            scale=(width // config.num_heads) ** -0.5,
        )
        queries += rearrange(gathered, "b q h k -> b q (h k)")
        return queries + layers.MLP(
            hidden_size=config.mlp_size,
            num_layers=config.num_layers + 1,
            activation=layers.gelu,
            gated=False,
            use_bias=True,
            dtype=self.dtype,
            name="mlp",
        )(norm(name="mlp_norm")(queries))
