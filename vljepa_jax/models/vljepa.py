"""VL-JEPA: X-Encoder, predictor and Y-Encoder around one shared embedding space (paper, 3.1).

Axes: b batch, T frames, H height and W width in pixels, n visual tokens, q query tokens, t target
tokens, x width of the X-Encoder, d width of the predictor, e size of the shared space.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from vljepa_jax.config import ModelConfig
from vljepa_jax.models import layers
from vljepa_jax.models.llama import Llama
from vljepa_jax.models.temperature import learned_logit_scale
from vljepa_jax.models.text_encoder import make_text_encoder
from vljepa_jax.models.vjepa2 import make_x_encoder, normalise


@struct.dataclass
class Output:
    """What the loss takes.

    Attributes:
        predicted: S^_Y, unit vectors, float32 [b, e].
        target: S_Y, unit vectors, float32 [b, e].
        logit_scale: inverse temperature, float32 scalar.
    """

    predicted: Float[Array, "b e"]
    target: Float[Array, "b e"]
    logit_scale: Float[Array, ""]


class VLJEPA(nn.Module):
    """Predicts the embedding of a target text from a video and a query.

    Every method is used through ``model.apply({"params": params}, ..., method="predict")``; it
    reads only its own part of the parameters, so a tree that holds just these parts will do.

    A frozen X-Encoder costs no backward pass as long as no gradient is asked for its parameters:
    differentiate by the trained parameters alone, or compute ``encode_video`` outside and put
    the result into the batch as "visual_tokens". Nothing in the model itself stops gradients.

    Attributes:
        config: the three parts and what joins them.
    """

    config: ModelConfig

    def setup(self):
        config = self.config
        dtype = jnp.dtype(config.dtype)
        width = config.predictor.hidden_size
        linear = functools.partial(nn.Dense, kernel_init=layers.kernel_init)
        self.x_encoder = make_x_encoder(config)
        self.vision_projection = linear(width, dtype=dtype)
        self.token_embedding = nn.Embed(
            config.predictor.vocab_size,
            width,
            dtype=dtype,
            embedding_init=layers.embedding_init(width),
        )
        self.predictor = Llama(config.predictor, dtype, config.remat, config.unroll_layers)
        self.y_encoder = make_text_encoder(
            config.y_encoder, dtype, config.remat, config.unroll_layers
        )
        # A bias here would add the same vector to all embeddings, which contrast with each other.
        self.predictor_head = linear(config.embedding_size, use_bias=False)
        self.y_head = linear(config.embedding_size, use_bias=False)

    def __call__(self, batch: Mapping[str, Array]) -> Output:
        """Embeds both sides of a batch.

        Args:
            batch: "video" (as for ``encode_video``) or "visual_tokens" [b, n, x]; "query_tokens"
                and "query_mask" [b, q]; "target_tokens" and "target_mask" [b, t]. What else it
                holds is not read.

        Raises:
            ValueError: neither or both of "video" and "visual_tokens" are given.
        """
        if ("video" in batch) == ("visual_tokens" in batch):
            raise ValueError('batch: give either "video" or "visual_tokens"')
        visual_tokens = (
            self.encode_video(batch["video"]) if "video" in batch else batch["visual_tokens"]
        )
        return Output(
            predicted=self.predict(visual_tokens, batch["query_tokens"], batch["query_mask"]),
            target=self.encode_text(batch["target_tokens"], batch["target_mask"]),
            logit_scale=self.logit_scale(),
        )

    def encode_video(
        self, video: UInt8[Array, "b T H W 3"] | Float[Array, "b T H W 3"]
    ) -> Float[Array, "b n x"]:
        """X-Encoder: S_V.

        Args:
            video: uint8 pixels, which are normalised here, or floats that already are
                (ImageNet mean and standard deviation).

        Returns:
            [b, n, x] in the computation's dtype.
        """
        return self.x_encoder(normalise(video))

    def predict(
        self,
        visual_tokens: Float[Array, "b n x"],
        query_tokens: Int[Array, "b q"],
        query_mask: Bool[Array, "b q"],
    ) -> Float[Array, "b e"]:
        """Predictor: S^_Y.

        Args:
            visual_tokens: [b, n, x] from ``encode_video``.
            query_tokens: [b, q] token ids, padded on the right; q may be 0.
            query_mask: [b, q], False at padding, on which the result does not depend. A query may
                be empty; with pooling "query" its row is averaged over the visual tokens.

        Returns:
            Unit vectors, float32 [b, e].
        """
        hidden = self.contextualise(visual_tokens, self.embed_query(query_tokens), query_mask)
        visual_mask = jnp.ones(visual_tokens.shape[:2], bool)
        if self.config.pooling == "query":
            visual_mask &= ~query_mask.any(axis=1, keepdims=True)
        pooled = layers.masked_mean(hidden, jnp.concatenate([visual_mask, query_mask], axis=1))
        return layers.l2_normalise(self.predictor_head(pooled))

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

    def encode_text(
        self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]
    ) -> Float[Array, "b e"]:
        """Y-Encoder: S_Y.

        Args:
            tokens: [b, t] token ids, padded on the right.
            mask: [b, t], False at padding, on which the result does not depend.

        Returns:
            Unit vectors, float32 [b, e]; the zero vector for a text without tokens.
        """
        return layers.l2_normalise(self.y_head(self.y_encoder(tokens, mask)))

    @nn.compact  # and not in setup, so that the other methods do not ask for this parameter
    def logit_scale(self) -> Float[Array, ""]:
        """exp of the learned parameter, at most ``max_logit_scale``."""
        return learned_logit_scale(self, self.config)
