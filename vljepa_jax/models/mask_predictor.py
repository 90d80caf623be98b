"""V-JEPA 2's predictor of masked tokens: a narrow transformer with learned mask tokens.

Source: facebookresearch/vjepa2's src/models/predictor.py; transformers' VJEPA2Predictor. Both put
the tokens into the order of their positions first; attention does not see the order and the rotary
embedding goes by position, so that this changes nothing and is left out.

Axes: b batch, k kept tokens, p predicted tokens, d width of the encoder.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vljepa_jax.config import Grid, MaskPredictorConfig, VJEPA2Config
from vljepa_jax.models import layers
from vljepa_jax.models.vit_layer import Layer
from vljepa_jax.models.vjepa2 import video_rotary


class MaskPredictor(nn.Module):
    """The encoder's tokens of what is seen -> tokens of what is masked.

    Attributes:
        config: sizes.
        encoder: of the encoder, whose positions and width it shares.
        num_masks: mask tokens, one for each kind of mask.
        dtype: of the computation.
        remat: what the backward pass recomputes.
        unroll: compiles every layer on its own.
    """

    config: MaskPredictorConfig
    encoder: VJEPA2Config
    num_masks: int
    dtype: Any = jnp.float32
    remat: layers.Remat = "none"
    unroll: bool = False

    @nn.compact
    def __call__(
        self,
        context: Float[Array, "b k d"],
        kept: Int[Array, "b k"],
        predicted: Int[Array, "b p"],
        grid: Grid,
        mask_index: int,
    ) -> Float[Array, "b p d"]:
        """Predicts.

        Args:
            context: [b, k, d] from the encoder.
            kept: [b, k], positions of these tokens in the grid.
            predicted: [b, p], positions of the tokens to predict.
            grid: tokens along (frames, rows, columns).
            mask_index: the kind of mask.

        Raises:
            ValueError: the width cannot be divided into the heads.
        """
        config = self.config
        width = config.hidden_size
        if width % config.num_heads:
            raise ValueError(
                f"MaskPredictorConfig: hidden_size {width} is not a multiple of num_heads "
                f"{config.num_heads}"
            )
        project = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=layers.kernel_init)
        x = project(width, name="embedding")(context)
        # Zero at the start, as upstream (zero_init_mask_tokens).
        mask_tokens = self.param(
            "mask_tokens", nn.initializers.zeros, (self.num_masks, width), jnp.float32
        )
        asked = jnp.broadcast_to(mask_tokens[mask_index].astype(x.dtype), (*predicted.shape, width))
        x = jnp.concatenate([x, asked], axis=1)
        rotary = video_rotary(
            grid, width // config.num_heads, self.encoder.rope, self.encoder.trained_side
        ).at(jnp.concatenate([kept, predicted], axis=1))
        stack = layers.scan_layers(
            Layer, config.num_layers, self.remat, self.unroll, (nn.broadcast,)
        )
        x, _ = stack(config, self.dtype, name="layers")(x, rotary)
        x = layers.layer_norm(config.norm_eps, self.dtype, name="norm")(x)
        return project(self.encoder.hidden_size, name="projection")(x[:, kept.shape[1] :])
