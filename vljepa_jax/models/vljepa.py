"""VL-JEPA: X-Encoder, predictor and Y-Encoder around one shared embedding space (paper, 3.1).

Axes: b batch, n visual tokens, q query tokens, t target tokens, x width of the X-Encoder, e size of
the shared space.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, reduce
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.config import ModelConfig
from vljepa_jax.models import layers
from vljepa_jax.models.temperature import learned_logit_scale
from vljepa_jax.models.text_encoder import make_text_encoder
from vljepa_jax.models.vision_language import VisionLanguage


@struct.dataclass
class Output:
    """The embeddings that the loss compares.

    Attributes:
        predicted: S^_Y, unit vectors, float32 [b, e].
        target: S_Y, unit vectors, float32 [b, e].
    """

    predicted: Float[Array, "b e"]
    target: Float[Array, "b e"]


class VLJEPA(VisionLanguage):
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
        super().setup()
        config = self.config
        self.y_encoder = make_text_encoder(
            config.y_encoder, jnp.dtype(config.dtype), config.remat, config.unroll_layers
        )
        linear = functools.partial(nn.Dense, kernel_init=layers.kernel_init)
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
        if self.is_initializing():  # the loss alone asks for it later
            self.logit_scale()
        return Output(
            predicted=self.predict(
                self.visual_tokens(batch), batch["query_tokens"], batch["query_mask"]
            ),
            target=self.encode_text(batch["target_tokens"], batch["target_mask"]),
        )

    def predict(
        self,
        visual_tokens: Float[Array, "b n x"],
        query_tokens: Int[Array, "b q"],
        query_mask: Bool[Array, "b q"],
    ) -> Float[Array, "b e"]:
        """Predictor: S^_Y.

        Args:
            visual_tokens: [b, n, x] from ``encode_video``; with ``average_frames`` of frames of the
                X-Encoder's own size.
            query_tokens: [b, q] token ids, padded on the right; q may be 0.
            query_mask: [b, q], False at padding, on which the result does not depend. A query may
                be empty; with pooling "query" its row is averaged over the visual tokens.

        Returns:
            Unit vectors, float32 [b, e].
        """
        if not self.config.average_frames:
            return layers.l2_normalise(self._predict(visual_tokens, query_tokens, query_mask))
        # As rows of a batch: none sees another.
        apart = rearrange(visual_tokens, "b (t n) x -> (b t) n x", n=self._tokens_of_a_frame())
        frames = len(apart) // len(visual_tokens)
        repeated = [jnp.repeat(array, frames, axis=0) for array in (query_tokens, query_mask)]
        found = layers.l2_normalise(self._predict(apart, *repeated))
        return layers.l2_normalise(reduce(found, "(b t) e -> b e", "mean", t=frames))

    def _tokens_of_a_frame(self) -> int:
        encoder = self.config.x_encoder
        return math.prod(encoder.token_grid(1, encoder.image_size, encoder.image_size))

    def _predict(
        self,
        visual_tokens: Float[Array, "b n x"],
        query_tokens: Int[Array, "b q"],
        query_mask: Bool[Array, "b q"],
    ) -> Float[Array, "b e"]:
        hidden = self.contextualise(visual_tokens, self.embed_query(query_tokens), query_mask)
        visual_mask = jnp.ones(visual_tokens.shape[:2], bool)
        if self.config.pooling == "query":
            visual_mask &= ~query_mask.any(axis=1, keepdims=True)
        pooled = layers.masked_mean(hidden, jnp.concatenate([visual_mask, query_mask], axis=1))
        return self.predictor_head(pooled)

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
