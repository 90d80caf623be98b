"""The transformer layer that V-JEPA 2, its predictor and pooler, and the dual encoders share.

Source: transformers' models/vjepa2, models/clip and models/siglip, and timm's models/eva.py, which
agree in all but what are attributes here.

Axes: b batch, n tokens, d width.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, Protocol

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from vljepa_jax.models import layers
from vljepa_jax.models.attention import attention

Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]

ACTIVATIONS = {
    "gelu": layers.gelu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),  # as CLIP was trained
}


class LayerSizes(Protocol):
    """The fields of a config that a layer reads."""

    num_layers: int
    num_heads: int
    mlp_size: int
    norm_eps: float


class Layer(nn.Module):
    """LayerNorm, attention, LayerNorm, MLP, each pair around a residual; biases everywhere.

    Attributes:
        config: sizes; the width is the input's.
        dtype: of the computation.
        activation: of the MLP.
        causal: no token attends to those behind it.
    """

    config: LayerSizes
    dtype: Any
    activation: Activation = "gelu"
    causal: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], rotary: layers.Rotary | None):
        config = self.config
        head_size = x.shape[-1] // config.num_heads
        norm = functools.partial(layers.layer_norm, config.norm_eps, self.dtype)
        x += layers.SelfAttention(
            num_heads=config.num_heads,
            num_kv_heads=config.num_heads,
            head_size=head_size,
            num_layers=config.num_layers,
            dtype=self.dtype,
            use_bias=True,
            name="attention",
        )(
            norm(name="attention_norm")(x),
            rotary,
            functools.partial(attention, scale=head_size**-0.5, causal=self.causal),
        )
        x += layers.MLP(
            hidden_size=config.mlp_size,
            num_layers=config.num_layers,
            activation=ACTIVATIONS[self.activation],
            gated=False,
            use_bias=True,
            dtype=self.dtype,
            name="mlp",
        )(norm(name="mlp_norm")(x))
        self.sow("intermediates", "hidden", x)
        return x, None
