"""The interface of a Y-Encoder, and its families."""

from __future__ import annotations

from typing import Any, Protocol

from jaxtyping import Array, Bool, Float, Int

from vljepa_jax.config import GemmaConfig, Qwen3Config
from vljepa_jax.models.gemma import Gemma
from vljepa_jax.models.layers import Remat
from vljepa_jax.models.qwen3 import Qwen3


class TextEncoder(Protocol):
    """A linen module: padded texts -> one vector each, by the family's own pooling."""

    def __call__(self, tokens: Int[Array, "b t"], mask: Bool[Array, "b t"]) -> Float[Array, "b e"]:
        """Encodes texts; the result is not normalised.

        Args:
            tokens: [b, t] token ids, padded on the right.
            mask: [b, t], False at padding, on which the result does not depend. A text without
                tokens gives the zero vector.

        Returns:
            float32 [b, e].
        """


def make_text_encoder(
    config: GemmaConfig | Qwen3Config, dtype: Any, remat: Remat, unroll: bool
) -> TextEncoder:
    """The module of the config's family."""
    if isinstance(config, GemmaConfig):
        return Gemma(config, dtype, remat, unroll)
    return Qwen3(config, dtype, remat, unroll)
