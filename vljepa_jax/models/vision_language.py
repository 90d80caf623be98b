"""The trunk of a VL-JEPA and of a VLM: an X-Encoder whose tokens a Llama reads before the text.

Axes: b batch, T frames, H height and W width in pixels, n visual tokens, q text tokens, x width of
the X-Encoder, d width of the predictor.
"""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from vljepa_jax.config import ModelConfig, VisualReaderConfig, VLMConfig
from vljepa_jax.models import layers
from vljepa_jax.models.llama import Llama
from vljepa_jax.models.products import Dense
from vljepa_jax.models.video_encoder import make_video_encoder


class VisionLanguage(nn.Module):
    """X-Encoder, projection, token table and Llama layers.

    Attributes:
        config: of these parts.
    """

    config: ModelConfig | VLMConfig | VisualReaderConfig

    def setup(self):
        config = self.config
        dtype = jnp.dtype(config.dtype)
        width = config.predictor.hidden_size
        self.x_encoder = make_video_encoder(config)
        # Visual tokens enter at the scale of the words beside them. Larger ones, as after the
        # usual initialisation, would drown what the pretrained layers add to them.
        self.vision_projection = Dense(
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

        Positions run over both; every token attends to every token that is not padding or, where
        the layers are causal, to those of them that do not come after it.

        Returns:
            [b, n + q, d] after the final norm; what stands at padding means nothing.
        """
        return self.predictor(*self.sequence(visual_tokens, query_embeddings, query_mask))

    def sequence(
        self,
        visual_tokens: Float[Array, "b n x"],
        query_embeddings: Float[Array, "b q d"],
        query_mask: Bool[Array, "b q"],
    ) -> tuple[Float[Array, "b n+q d"], Bool[Array, "b n+q"]]:
        """The input of the predictor's layers: projected visual tokens, then the query's."""
        visual = self.vision_projection(visual_tokens)
        tokens = jnp.concatenate([visual, query_embeddings.astype(visual.dtype)], axis=1)
        mask = jnp.concatenate([jnp.ones(visual.shape[:2], bool), query_mask], axis=1)
        return tokens, mask
