"""Y-Decoder: one embedding of the shared space -> text.

The paper (2.1) says no more than that a light-weight decoder turns S^_Y into text where text is
wanted. Here it inverts the frozen Y-Encoder, learnt from text alone: a few prefix tokens are made
from the embedding, and a causal Llama continues them. Noise on the embedding in training lets it
read predictions too, which lie near the embedding of their text and not on it (CapDec, Nukrai et
al. 2022, arXiv 2211.00575, does so for CLIP).

Axes: b batch, e shared space, p prefix tokens, t tokens of the text, d width, v vocabulary.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.config import YDecoderConfig
from vljepa_jax.models import layers
from vljepa_jax.models.llama import KVCache, Llama
from vljepa_jax.models.products import Dense


class YDecoder(nn.Module):
    """Writes texts. The token table also predicts, as in Llama 3.2 1B and 3B.

    The sequence is p prefix tokens, then the text without any special token, then its end token.
    The last prefix token predicts the text's first token.

    Attributes:
        config: sizes.
    """

    config: YDecoderConfig

    def setup(self):
        config = self.config
        dtype = jnp.dtype(config.dtype)
        width = config.y_decoder.hidden_size
        # Prefix tokens join the words, so their features start out as large as those of a word.
        self.y_prefix = Dense(
            config.prefix_tokens * width,
            dtype=dtype,
            kernel_init=nn.initializers.normal(width**-0.5),
        )
        self.y_token_embedding = layers.TokenTable(
            config.y_decoder.vocab_size,
            width,
            dtype=dtype,
            embedding_init=layers.embedding_init(width),
        )
        self.y_decoder = Llama(config.y_decoder, dtype, config.remat, config.unroll_layers)

    def __call__(
        self,
        embeddings: Float[Array, "b e"],
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"],
    ) -> Float[Array, "b t v"]:
        """Logits of each token, given the embedding and the tokens before it.

        Args:
            embeddings: unit vectors.
            tokens: with the end token, padded on the right; the last one is not read.
            mask: False at padding, on which no other logits depend.

        Returns:
            float32 [b, t, v]; what stands at padding means nothing.
        """
        return self.logits(self.features(embeddings, tokens, mask))

    def features(
        self,
        embeddings: Float[Array, "b e"],
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"],
    ) -> Float[Array, "b t d"]:
        """The hidden states from which ``__call__`` computes logits."""
        prefix = self.prefix(embeddings)
        words = self.y_token_embedding(tokens[:, :-1])
        seen = jnp.concatenate([jnp.ones(prefix.shape[:2], bool), mask[:, :-1]], axis=1)
        hidden = self.y_decoder(jnp.concatenate([prefix, words], axis=1), seen)
        return hidden[:, prefix.shape[1] - 1 :]

    def prefix(self, embeddings: Float[Array, "b e"]) -> Float[Array, "b p d"]:
        """The prefix tokens of each embedding."""
        prefix = self.y_prefix(embeddings)
        return prefix.reshape(len(embeddings), self.config.prefix_tokens, -1)

    def start(
        self, embeddings: Float[Array, "b e"], room: int
    ) -> tuple[Float[Array, "b v"], KVCache]:
        """Reads the prefix.

        Args:
            room: tokens that the cache will hold after the prefix.

        Returns:
            Logits of the first token, float32, and the cache to go on with.
        """
        prefix = self.prefix(embeddings)
        cache = KVCache.empty(
            self.config.y_decoder, len(embeddings), prefix.shape[1] + room, prefix.dtype
        )
        hidden, cache = self.y_decoder(prefix, None, cache)
        return self.logits(hidden[:, -1]), cache

    def extend(
        self, tokens: Int[Array, " b"], cache: KVCache
    ) -> tuple[Float[Array, "b v"], KVCache]:
        """Reads one more token of each text; returns the logits of the next, and the cache."""
        hidden, cache = self.y_decoder(self.y_token_embedding(tokens[:, None]), None, cache)
        return self.logits(hidden[:, -1]), cache

    def logits(self, features: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Logits of tokens, float32."""
        return self.y_token_embedding.attend(features).astype(jnp.float32)


def add_noise(
    embeddings: Float[Array, "b e"], level: float | Float[Array, "b 1"], rng: jax.Array
) -> Float[Array, "b e"]:
    """Unit vectors with isotropic Gaussian noise, brought back to length 1.

    Args:
        embeddings: unit vectors, float32.
        level: root-mean-square length of the noise, which does not depend on e; one of all, or one
            a row. In many dimensions noise is at right angles to any vector: the cosine with it is
            about (1 + level ** 2) ** -0.5.
        rng: of this draw.
    """
    noise = jax.random.normal(rng, embeddings.shape) * embeddings.shape[-1] ** -0.5
    return layers.l2_normalise(embeddings + level * noise)
