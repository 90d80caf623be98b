"""The interface of an X-Encoder, and its families.

Axes: b batch, T frames, H height and W width in pixels, n visual tokens, d width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from vljepa_jax.models.image_towers import ImageTower
from vljepa_jax.models.vjepa2 import VJEPA2, VJEPA21


class VideoEncoder(Protocol):
    """A linen module: clips -> visual tokens.

    It is built of the family's config, the dtype of the computation, what the backward pass
    recomputes, and whether every layer is compiled on its own.
    """

    def __call__(self, video: UInt8[Array, "b T H W 3"]) -> Float[Array, "b n d"]:
        """Normalises pixels and encodes them.

        Args:
            video: as the loader gives it (``data.video.load_clip``).

        Returns:
            [b, n, d] in the computation's dtype: the tokens of the config's ``token_grid``, rows
            and columns of the earliest frames first; d is its ``hidden_size``.

        Raises:
            ConfigError: the family cannot take clips of this size.
        """


# Family of the config -> its module.
VIDEO_ENCODERS: dict[str, Callable[..., VideoEncoder]] = {
    "vjepa2": VJEPA2,
    "vjepa2_1": VJEPA21,
    "pe_core_image": ImageTower,
}


def make_video_encoder(model: Any) -> VideoEncoder:
    """The X-Encoder of any model's config: its ``x_encoder``, and how it is computed."""
    module = VIDEO_ENCODERS[model.x_encoder.family]
    return module(model.x_encoder, jnp.dtype(model.dtype), model.remat, model.unroll_layers)
