"""The text towers of CLIP, SigLIP 2 and PE-Core: one transformer, whose differences are data.

Source: transformers' models/clip and models/siglip, and open_clip's transformer.py.

Axes: b batch, t tokens, d width, e size of the embedding.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.config import TextTowerConfig
from vljepa_jax.models import layers
from vljepa_jax.models.placement import by_rows
from vljepa_jax.models.products import Dense
from vljepa_jax.models.vit_layer import Layer


class TextTower(nn.Module):
    """Tokens [b, t] -> one vector per text [b, e] (``models.text_encoder``).

    CLIP and PE-Core are causal, and a text's last token (its end token) stands for it. SigLIP 2 was
    trained on texts that are filled up with padding to its full length, which all tokens attend to,
    and the last place stands for the text: it is filled up here, whatever t is.

    Attributes:
        config: sizes.
        dtype: of the computation in the layers; the projection is float32.
        remat: what the backward pass recomputes.
        unroll: compiles every layer on its own.
    """

    config: TextTowerConfig
    dtype: Any = jnp.float32
    remat: layers.Remat = "none"
    unroll: bool = False

    @nn.compact
    def __call__(self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]) -> Float[Array, "b e"]:
        """Encodes texts; the result is not normalised.

        Args:
            tokens: [b, t] token ids, at most ``config.max_length``.
            mask: [b, t], False at padding, which stands on the right. A text without tokens gives
                the zero vector.

        Returns:
            float32 [b, e].

        Raises:
            ValueError: there are more tokens than the tower has positions.
        """
        config = self.config
        layers.check_positions(tokens.shape[1], config)
        width = config.hidden_size
        if config.filled_up:
            tokens = jnp.where(mask, tokens, config.pad_id)
            missing = config.max_length - tokens.shape[1]
            tokens = jnp.pad(tokens, ((0, 0), (0, missing)), constant_values=config.pad_id)
        init = layers.embedding_init(width)
        x = layers.TokenTable(
            config.vocab_size,
            width,
            dtype=self.dtype,
            embedding_init=init,
            name="token_embedding",
        )(tokens)
        positions = self.param("position_embedding", init, (config.max_length, width), jnp.float32)
        x = by_rows(x + positions[: x.shape[1]].astype(self.dtype))
        stack = layers.scan_layers(
            Layer, config.num_layers, self.remat, self.unroll, (nn.broadcast,)
        )
        x, _ = stack(
            config,
            self.dtype,
            activation=config.activation,
            causal=config.causal,
            name="layers",
        )(x, None)
        x = layers.layer_norm(config.norm_eps, self.dtype, name="norm")(x)
        pooled = x[:, -1] if config.filled_up else layers.last_token(x, mask)
        projected = Dense(
            config.embedding_size,
            use_bias=config.projection_bias,
            kernel_init=layers.kernel_init,
            name="projection",
        )(pooled.astype(jnp.float32))
        return jnp.where(mask.any(axis=1, keepdims=True), projected, 0.0)
