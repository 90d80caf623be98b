"""Pretraining of the two text backbones, on text alone.

In the paper they arrive pretrained, as EmbeddingGemma and Llama 3.2; these are for backbones of
one's own, such as the small ones that come with the package.

Axes: b batch, t tokens, d width, v vocabulary; c clauses of w words, s questions of q tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.config import LanguageModelConfig, TextPairsConfig
from vljepa_jax.models import layers
from vljepa_jax.models.llama import Llama
from vljepa_jax.models.temperature import learned_logit_scale
from vljepa_jax.models.text_encoder import make_text_encoder


class TextPairs(nn.Module):
    """A text encoder alone, whose embeddings are compared.

    Attributes:
        config: the encoder and its temperature.
    """

    config: TextPairsConfig

    def setup(self):
        config = self.config
        self.y_encoder = make_text_encoder(
            config.y_encoder, jnp.dtype(config.dtype), config.remat, config.unroll_layers
        )

    def __call__(self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]) -> Float[Array, "b d"]:
        """Unit vectors, float32, of texts that are padded on the right."""
        return layers.l2_normalise(self.y_encoder(tokens, mask))

    @nn.compact
    def logit_scale(self) -> Float[Array, ""]:
        """The learned inverse temperature."""
        return learned_logit_scale(self, self.config)


class LanguageModel(nn.Module):
    """A Llama whose token table also predicts, as in Llama 3.2 1B and 3B.

    Its parameters are named as the predictor's of a VL-JEPA, which starts from some of the layers.

    Attributes:
        config: sizes.
    """

    config: LanguageModelConfig

    def setup(self):
        config = self.config
        dtype = jnp.dtype(config.dtype)
        width = config.predictor.hidden_size
        self.token_embedding = layers.TokenTable(
            config.predictor.vocab_size,
            width,
            dtype=dtype,
            embedding_init=layers.embedding_init(width),
        )
        self.predictor = Llama(config.predictor, dtype, config.remat, config.unroll_layers)

    def __call__(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]
    ) -> Float[Array, "b t v"]:
        """Logits of the token after each one, float32; texts are padded on the right."""
        return self.logits(self.features(tokens, mask))

    def features(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]
    ) -> Float[Array, "b t d"]:
        """The hidden states from which ``__call__`` computes logits."""
        return self.predictor(self.token_embedding(tokens), mask)

    def logits(self, features: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Logits of tokens, float32."""
        return self.token_embedding.attend(features).astype(jnp.float32)

    def pooled(self, batch: Mapping[str, Array], rng: jax.Array) -> Float[Array, "b s d"]:
        """The mean over each question's tokens, whose ``logits`` are those of its answer's words.

        The context stands before the question as in a video: not in sentences, but in tokens each
        of which means all that is said of one thing, several times, in any order. Such a token is
        the sum of the words of a clause, at the size of a word. To go on without the causal mask,
        and with a mean, is what makes text encoders of language models (LLM2Vec, arXiv
        2404.05961).

        Args:
            batch: "context_tokens" and "context_mask" [b, c, w], the clauses of each clip's
                captions, those that are there first; "query_tokens" and "query_mask" [b, s, q],
                padded on the right.
            rng: of the clauses' places.
        """
        context_mask, queries = batch["context_mask"], batch["query_tokens"]
        clause_words = self.token_embedding(batch["context_tokens"]) * context_mask[..., None]
        lengths = jnp.maximum(jnp.sum(context_mask, axis=2, keepdims=True), 1)
        clauses = jnp.sum(clause_words, axis=2) / jnp.sqrt(lengths).astype(clause_words.dtype)
        places = context_places(rng, jnp.any(context_mask, axis=2), self.config.context_length)
        context = jnp.take_along_axis(clauses, places[..., None], axis=1)
        context = jnp.repeat(context, queries.shape[1], axis=0)
        mask = batch["query_mask"].reshape(-1, queries.shape[2])
        words = self.token_embedding(queries.reshape(mask.shape))
        tokens = jnp.concatenate([context, words], axis=1)
        seen = jnp.concatenate([jnp.ones(context.shape[:2], bool), mask], axis=1)
        hidden = self.predictor(tokens, seen)[:, context.shape[1] :]
        return layers.masked_mean(hidden, mask).reshape(*queries.shape[:2], -1)


def context_places(rng: jax.Array, there: Bool[Array, "b c"], places: int) -> Int[Array, "b n"]:
    """Draws which clause stands at each place: each as often as any other, in random order.

    Args:
        there: True at the clauses that a row has, which come first.
    """
    order = jnp.argsort(jax.random.uniform(rng, (len(there), places)), axis=1)
    return order % jnp.maximum(jnp.sum(there, axis=1, keepdims=True), 1)
