"""What pretrains the two text backbones, on text alone.

In the paper they arrive pretrained, as EmbeddingGemma and Llama 3.2; these are for backbones of
one's own, such as the small ones that come with the package.

Axes: b batch, t tokens, d width, v vocabulary.
"""

from __future__ import annotations

import flax.linen as nn
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
        hidden = self.predictor(self.token_embedding(tokens), mask)
        return self.token_embedding.attend(hidden).astype(jnp.float32)

    def read(self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]) -> Float[Array, "b v"]:
        """Logits of the words that answer the question with which each text ends, float32.

        They are taken from the mean over all tokens, as a VL-JEPA's embedding is. To go on without
        the causal mask, and with such a mean, is what makes text encoders of language models
        (LLM2Vec, arXiv 2404.05961).
        """
        hidden = self.predictor(self.token_embedding(tokens), mask)
        return self.token_embedding.attend(layers.masked_mean(hidden, mask)).astype(jnp.float32)
