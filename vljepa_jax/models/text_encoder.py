"""The interface of a Y-Encoder, and its families."""

from __future__ import annotations

from typing import Any, Protocol

from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.config import YEncoderConfig
from vljepa_jax.models.bert import Bert
from vljepa_jax.models.gemma import Gemma
from vljepa_jax.models.layers import Remat
from vljepa_jax.models.qwen3 import Qwen3
from vljepa_jax.models.text_towers import TextTower


class TextEncoder(Protocol):
    """A linen module: padded texts -> one vector each, by the family's own pooling."""

    def __call__(self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]) -> Float[Array, "b e"]:
        """Encodes texts; only a family that says so normalises the result.

        Args:
            tokens: [b, t] token ids, padded on the right.
            mask: [b, t], False at padding, on which the result does not depend. A text without
                tokens gives the zero vector.

        Returns:
            float32 [b, e].
        """


# Family of the config -> its module.
TEXT_ENCODERS = {
    "gemma": Gemma,
    "qwen3": Qwen3,
    "bert": Bert,
    "siglip2_text": TextTower,
    "pe_core_text": TextTower,
}


def make_text_encoder(
    config: YEncoderConfig, dtype: Any, remat: Remat, unroll: bool
) -> TextEncoder:
    """The module of the config's family."""
    return TEXT_ENCODERS[config.family](config, dtype, remat, unroll)
