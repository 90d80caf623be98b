"""What a VL-JEPA and a VLM have in common: an X-Encoder whose tokens a Llama reads before the text.

Axes: b batch, T frames, H height and W width in pixels, n visual tokens, q text tokens, x width of
the X-Encoder, d width of the predictor, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from vljepa_jax.config import ModelConfig, VLMConfig
from vljepa_jax.models import layers
from vljepa_jax.models.llama import Llama
from vljepa_jax.models.temperature import learned_logit_scale
from vljepa_jax.models.video_encoder import make_video_encoder


class VisionLanguage(nn.Module):
    """X-Encoder, projection, token table and Llama layers.

    Attributes:
        config: of these parts.
    """

    config: ModelConfig | VLMConfig

    def setup(self):
        config = self.config
        dtype = jnp.dtype(config.dtype)
        width = config.predictor.hidden_size
        self.x_encoder = make_video_encoder(config)
        # Visual tokens enter at the scale of the words beside them. Larger ones, as after the
        # usual initialisation, would drown what the pretrained layers add to them.
        self.vision_projection = layers.Dense(
            width, dtype=dtype, kernel_init=layers.projection_init(width**-0.5)
        )
        self.token_embedding = layers.TokenTable(
            config.predictor.vocab_size,
            width,
            dtype=dtype,
            embedding_init=layers.embedding_init(width),
        )
        self.predictor = Llama(config.predictor, dtype, config.remat, config.unroll_layers)

    def encode_video(self, video: UInt8[Array, "b T H W 3"]) -> Float[Array, "b n x"]:
        """X-Encoder: S_V, in the computation's dtype."""
        return self.x_encoder(video)

    def visual_tokens(self, batch: Mapping[str, Array]) -> Float[Array, "b n x"]:
        """S_V of a batch, which holds either "video" or, encoded outside, "visual_tokens".

        Raises:
            ValueError: neither or both of "video" and "visual_tokens" are given.
        """
        if ("video" in batch) == ("visual_tokens" in batch):
            raise ValueError('batch: give either "video" or "visual_tokens"')
        if "visual_tokens" in batch:
            return batch["visual_tokens"]
        return self.encode_video(batch["video"])

    def embed_query(self, query_tokens: Int[Array, "b q"]) -> Float[Array, "b q d"]:
        """Looks the query tokens up in the predictor's token table."""
        return self.token_embedding(query_tokens)

    def contextualise(
        self,
        visual_tokens: Float[Array, "b n x"],
        query_embeddings: Float[Array, "b q d"],
        query_mask: Bool[Array, "b q"],
    ) -> Float[Array, "b n+q d"]:
        """Runs the predictor's layers over the visual tokens, then the query tokens.

        Positions run over both; every token attends to every token that is not padding.

        Returns:
            [b, n + q, d] after the final norm; what stands at padding means nothing.
        """
        visual = self.vision_projection(visual_tokens)
        tokens = jnp.concatenate([visual, query_embeddings.astype(visual.dtype)], axis=1)
        mask = jnp.concatenate([jnp.ones(visual.shape[:2], bool), query_mask], axis=1)
        return self.predictor(tokens, mask)


class VLM(VisionLanguage):
    """Predicts the tokens of a text after a clip: the token-space peer of a VL-JEPA."""

    config: VLMConfig

    def __call__(self, batch: Mapping[str, Array]) -> Float[Array, "b q v"]:
        """Logits of the token after each one, float32.

        Args:
            batch: "video" (as for ``encode_video``) or "visual_tokens" [b, n, x]; "tokens" and
                "mask" [b, q], padded on the right.
        """
        return self.logits(self.features(batch))

    def features(self, batch: Mapping[str, Array]) -> Float[Array, "b q d"]:
        """What ``__call__`` takes the logits of."""
        visual = self.visual_tokens(batch)
        words = self.embed_query(batch["tokens"])
        return self.contextualise(visual, words, batch["mask"])[:, visual.shape[1] :]

    def logits(self, features: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Logits of tokens by the token table, as in Llama 3.2 1B, float32."""
        return self.token_embedding.attend(features).astype(jnp.float32)

    def read(self, batch: Mapping[str, Array]) -> Float[Array, "b s d"]:
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
        """The visual tokens and what is told of the clip, in the space of words.

        Args:
            batch: "visual_tokens" [b, n, x]; "told_tokens" and "told_mask" [b, c, w].

        Returns:
            Unit vectors of each visual token, as the layers are given it, and of the sum of each
            clause's words, float32.
        """
        words = self.token_embedding(batch["told_tokens"]) * batch["told_mask"][..., None]
        visual = self.vision_projection(batch["visual_tokens"])
        return layers.l2_normalise(visual), layers.l2_normalise(jnp.sum(words, axis=2))

    @nn.compact  # and not in setup, so that the other methods do not ask for this parameter
    def clause_scale(self) -> Float[Array, ""]:
        """What the cosines of ``clauses`` are multiplied with: learned, 10 at first."""
        return learned_logit_scale(self, _ClauseTemperature)


class _ClauseTemperature:
    initial_temperature = 0.1
    max_logit_scale = 100.0
