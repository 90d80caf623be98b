"""A vision-language model that predicts tokens: the peer of a VL-JEPA in token space.

PerceptionLM's form (Cho et al. 2025, arXiv 2504.13180): the X-Encoder's tokens are projected, the
text follows, and the mask is causal over both.

Axes: b batch, n visual tokens, q query tokens, t tokens, x width of the X-Encoder, d width of the
Llama, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vljepa_jax.config import VLMConfig
from vljepa_jax.models.llama import KVCache
from vljepa_jax.models.vision_language import VisionLanguage


class VLM(VisionLanguage):
    """Writes texts after a clip and a query. The token table also predicts, as in Llama 3.2 1B.

    Attributes:
        config: sizes.
    """

    config: VLMConfig

    def __call__(self, batch: Mapping[str, Array]) -> Float[Array, "b t v"]:
        """Logits of each token, given the clip and the tokens before it.

        Args:
            batch: "video" (as for ``encode_video``) or "visual_tokens" [b, n, x]; "tokens" and
                "mask" [b, t], padded on the right; the last one is not read.

        Returns:
            float32; what stands at padding means nothing.
        """
        return self.logits(self.features(batch))

    def features(self, batch: Mapping[str, Array]) -> Float[Array, "b t d"]:
        """The hidden states from which ``__call__`` computes logits."""
        visual = self.visual_tokens(batch)
        words = self.embed_query(batch["tokens"][:, :-1])
        hidden = self.contextualise(visual, words, batch["mask"][:, :-1])
        return hidden[:, visual.shape[1] - 1 :]

    def logits(self, features: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Logits of tokens, float32."""
        return self.token_embedding.attend(features).astype(jnp.float32)

    def prefix(self, batch: Mapping[str, Array], room: int) -> tuple[Float[Array, "b d"], KVCache]:
        """Reads clips and queries.

        Args:
            batch: "video" or "visual_tokens" as for ``__call__``; "query_tokens" and "query_mask"
                [b, q], padded on the right.
            room: tokens that the cache will hold after the query.

        Returns:
            Features that predict each row's next token, and the cache to go on with.
        """
        visual = self.visual_tokens(batch)
        words = self.embed_query(batch["query_tokens"])
        tokens, mask = self.sequence(visual, words, batch["query_mask"])
        positions = tokens.shape[1] + room
        cache = KVCache.empty(self.config.predictor, len(tokens), positions, tokens.dtype)
        hidden, cache = self.predictor(tokens, mask, cache)
        last = jnp.take_along_axis(hidden, cache.lengths[:, None, None] - 1, axis=1)
        return last[:, 0], cache

    def continuation(
        self, last: Float[Array, "b d"], cache: KVCache, tokens: Int[Array, "b t"]
    ) -> Float[Array, "b t d"]:
        """Features that predict each of ``tokens``, given those before it and a prefix.

        Args:
            last: of ``prefix``, as the cache.
            tokens: padded on the right; the last one is not read.
        """
        hidden, _ = self.predictor(self.embed_query(tokens[:, :-1]), None, cache)
        return jnp.concatenate([last[:, None], hidden], axis=1)

    def start(self, batch: Mapping[str, Array], room: int) -> tuple[Float[Array, "b v"], KVCache]:
        """As ``prefix``, with the logits of the next token, float32."""
        last, cache = self.prefix(batch, room)
        return self.logits(last), cache

    def extend(
        self, tokens: Int[Array, " b"], cache: KVCache
    ) -> tuple[Float[Array, "b v"], KVCache]:
        """Reads one more token of each text; returns the logits of the next, and the cache."""
        hidden, cache = self.predictor(self.embed_query(tokens[:, None]), None, cache)
        return self.logits(hidden[:, -1]), cache
