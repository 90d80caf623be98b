"""Pretraining of an X-Encoder, and of a predictor's layers, by questions about clips.

A VLM that has a second way to answer, that of a VL-JEPA's predictor: without the causal mask, by
the mean over the question's tokens.

Axes: b batch, n visual tokens, q text tokens, s questions about a clip, c clauses of w words, x
width of the X-Encoder, d width of the predictor, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljepa_jax.config import VisualReaderConfig
from vljepa_jax.models import layers
from vljepa_jax.models.temperature import learned_logit_scale
from vljepa_jax.models.vision_language import VisionLanguage


class VisualReader(VisionLanguage):
    """X-Encoder and Llama layers whose token table also predicts.

    Attributes:
        config: sizes; whether the mask is causal is said by ``config.predictor.causal``.
    """

    config: VisualReaderConfig

    def __call__(self, batch: Mapping[str, Array]) -> Float[Array, "b q v"]:
        """Logits of the token after each one, float32.

        Args:
            batch: "video" (as for ``encode_video``) or "visual_tokens" [b, n, x]; "tokens" and
                "mask" [b, q], padded on the right.
        """
        return self.logits(self.features(batch))

    def features(self, batch: Mapping[str, Array]) -> Float[Array, "b q d"]:
        """The hidden states from which ``__call__`` computes logits."""
        visual = self.visual_tokens(batch)
        words = self.embed_query(batch["tokens"])
        return self.contextualise(visual, words, batch["mask"])[:, visual.shape[1] :]

    def logits(self, features: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Logits of tokens by the token table, as in Llama 3.2 1B, float32."""
        return self.token_embedding.attend(features).astype(jnp.float32)

    def pooled(self, batch: Mapping[str, Array]) -> Float[Array, "b s d"]:
        """The mean over each question's tokens, whose ``logits`` are those of its answer's words.

        Args:
            batch: "video" or "visual_tokens" as for ``__call__``; "query_tokens" and "query_mask"
                [b, s, q], s questions about each clip, padded on the right.
        """
        visual = self.visual_tokens(batch)
        queries = batch["query_tokens"]
        mask = batch["query_mask"].reshape(-1, queries.shape[2])
        visual = jnp.repeat(visual, queries.shape[1], axis=0)
        hidden = self.contextualise(visual, self.embed_query(queries.reshape(mask.shape)), mask)
        mean = layers.masked_mean(hidden[:, visual.shape[1] :], mask)
        return mean.reshape(*queries.shape[:2], -1)

    def clauses(
        self, batch: Mapping[str, Array]
    ) -> tuple[Float[Array, "b n d"], Float[Array, "b c d"]]:
        """The visual tokens and the clauses of the clip's captions, in the space of words.

        Args:
            batch: "visual_tokens" [b, n, x]; "context_tokens" and "context_mask" [b, c, w].

        Returns:
            Unit vectors of each visual token, as the layers are given it, and of the sum of each
            clause's words, float32.
        """
        words = self.token_embedding(batch["context_tokens"]) * batch["context_mask"][..., None]
        visual = self.vision_projection(batch["visual_tokens"])
        return layers.l2_normalise(visual), layers.l2_normalise(jnp.sum(words, axis=2))

    @nn.compact  # and not in setup, so that the other methods do not ask for this parameter
    def clause_scale(self) -> Float[Array, ""]:
        """The learned factor of the cosines of ``clauses``, 10 at first."""
        return learned_logit_scale(self, _ClauseTemperature)


class _ClauseTemperature:
    initial_temperature = 0.1
    max_logit_scale = 100.0
