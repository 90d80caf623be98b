"""V-JEPA 2 and 2.1 video encoders.

Source: transformers' models/vjepa2/modeling_vjepa2.py for V-JEPA 2, and for 2.1
facebookresearch/vjepa2's app/vjepa_2_1/models/vision_transformer.py and utils/modules.py. 2.1
differs in three things: its rotary embedding is a true rotation, stretched to the grid of training;
a vector is added to every token that says video or image; and a single image has a patch embedding
of its own.

Axes: b batch, T frames, H height and W width in pixels; a token stands for a tubelet of frames and
a patch of pixels, on a grid of (frames, rows, columns); n tokens, rows and columns of the earliest
tubelet first, m of them that are kept, p pixels of one; d width, k head size.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int, UInt8

from vljepa_jax.config import Grid, VJEPA2Config, VJEPA21Config
from vljepa_jax.models import layers
from vljepa_jax.models.placement import by_rows
from vljepa_jax.models.products import Dense
from vljepa_jax.models.vit_layer import Layer

ROPE_THETA = 10_000.0


class VJEPA2(nn.Module):
    """V-JEPA 2: video [b, T, H, W, 3] -> tokens [b, n, d] (``models.video_encoder``).

    Attributes:
        config: sizes.
        dtype: of the computation.
        remat: what the backward pass recomputes.
        unroll: compiles every layer on its own.
    """

    config: VJEPA2Config
    dtype: Any = jnp.float32
    remat: layers.Remat = "none"
    unroll: bool = False

    def __call__(
        self, video: UInt8[Array, "b T H W 3"], kept: Int[Array, "b m"] | None = None
    ) -> Float[Array, "b m d"]:
        """Normalises pixels and encodes them; as for ``encode``.

        Frames that are seen apart are as many images, whose tokens stand one after another.
        """
        pixels = layers.normalise_pixels(video, self.config.preprocessing)
        if self.config.frames == "together":
            return self.encode(pixels, kept)
        tokens = self.encode(rearrange(pixels, "b t h w c -> (b t) 1 h w c"))
        return rearrange(tokens, "(b t) n d -> b (t n) d", b=len(video))

    @nn.compact
    def encode(
        self, video: Float[Array, "b T H W 3"], kept: Int[Array, "b m"] | None = None
    ) -> Float[Array, "b m d"]:
        """Encodes normalised video of any length and size.

        Args:
            video: [b, T, H, W, 3] of the mean and deviation of ``config.preprocessing``. A single
                frame is an image: V-JEPA 2 repeats it to fill one tubelet, 2.1 embeds it in its own
                way. Otherwise T is a multiple of the tubelet, H and W of the patch.
            kept: positions of the tokens that are encoded, in the order of the tokens; the pixels
                of all others are not read. All of them where it is not given.

        Returns:
            [b, m, d]: the tokens of ``config.token_grid``, or what is kept of them, after the final
            norm.

        Raises:
            ValueError: the width is no multiple of the heads.
            ConfigError: a size that does not divide.
        """
        config = self.config
        if config.hidden_size % config.num_heads:
            raise ValueError(
                f"VJEPA2Config: hidden_size {config.hidden_size} is not a multiple of "
                f"num_heads {config.num_heads}"
            )
        grid = config.token_grid(*video.shape[1:4])
        x = self._embed(video.astype(self.dtype), grid, kept)
        head_size = config.hidden_size // config.num_heads
        rotary = video_rotary(grid, head_size, config.rope, config.trained_side)
        if kept is not None:
            rotary = rotary.at(kept)
        stack = layers.scan_layers(
            Layer, config.num_layers, self.remat, self.unroll, (nn.broadcast,)
        )
        x, _ = stack(config, self.dtype, name="layers")(x, rotary)
        return by_rows(layers.layer_norm(config.norm_eps, self.dtype, name="norm")(x))

    def _embed(
        self, video: Float[Array, "b T H W 3"], grid: Grid, kept: Int[Array, "b m"] | None
    ) -> Float[Array, "b m d"]:
        if video.shape[1] == 1:
            video = jnp.repeat(video, self.config.tubelet_size, axis=1)
        return self._projection("patch_embedding")(by_rows(_keep(_tubelets(video, grid), kept)))

    def _projection(self, name: str) -> nn.Dense:
        return Dense(
            self.config.hidden_size, dtype=self.dtype, kernel_init=layers.kernel_init, name=name
        )


class VJEPA21(VJEPA2):
    """V-JEPA 2.1; as ``VJEPA2``."""

    config: VJEPA21Config

    def _embed(
        self, video: Float[Array, "b T H W 3"], grid: Grid, kept: Int[Array, "b m"] | None
    ) -> Float[Array, "b m d"]:
        is_image = video.shape[1] == 1
        if self.is_initializing():  # the parameters of both, whatever the first input is
            first = video[:, :1]
            other = jnp.repeat(first, self.config.tubelet_size, axis=1) if is_image else first
            self._embed_modality(other, self.config.token_grid(*other.shape[1:4]), not is_image)
        return _keep(self._embed_modality(video, grid, is_image), kept)

    def _embed_modality(
        self, video: Float[Array, "b T H W 3"], grid: Grid, is_image: bool
    ) -> Float[Array, "b n d"]:
        """Tokens by the embedding of images or by that of videos."""
        prefix, modality = ("image_", "image") if is_image else ("", "video")
        x = self._projection(f"{prefix}patch_embedding")(_tubelets(video, grid))
        # As upstream initialises it: all but nothing.
        start = nn.initializers.normal(1e-6)
        vector = self.param(f"{modality}_modality", start, (self.config.hidden_size,), jnp.float32)
        return x + vector.astype(self.dtype)


def video_rotary(
    grid: Grid,
    head_size: int,
    style: Literal["tiled", "interleaved"],
    trained_side: int,
) -> layers.Rotary:
    """3-D rotary embedding: a third of each head turns with the frame, the row and the column.

    Each third is rounded down to an even size; what is left of the head does not turn.

    Args:
        grid: tokens along (frames, rows, columns).
        head_size: k.
        style: "tiled" is V-JEPA 2 as published: feature pairs are adjacent, yet the frequencies
            run twice through the third, so that the two of a pair turn by different angles. It is
            no rotation, but the weights expect it. "interleaved" is V-JEPA 2.1: a true rotation,
            and rows and columns are stretched to the grid of training.
        trained_side: rows and columns of that grid ("interleaved" alone uses it).

    Returns:
        cos and sin, [n, k].
    """
    third = 2 * (head_size // 3 // 2)
    frequencies = layers.rotary_frequencies(ROPE_THETA, third)
    positions = [np.arange(length, dtype=np.float32) for length in grid]
    if style == "interleaved":
        positions[1:] = [  # a single row or column stays at 0; upstream divides by zero there
            position * np.float32(trained_side - 1) / np.float32(max(len(position) - 1, 1))
            for position in positions[1:]
        ]
        frequencies = np.repeat(frequencies, 2)
    else:
        frequencies = np.tile(frequencies, 2)
    angles = jnp.concatenate(
        [
            jnp.broadcast_to(
                jnp.expand_dims(
                    position[:, None] * frequencies, [a for a in range(3) if a != axis]
                ),
                (*grid, third),
            )
            for axis, position in enumerate(positions)
        ]
        + [jnp.zeros((*grid, head_size - 3 * third))],
        axis=-1,
    ).reshape(-1, head_size)
    return layers.Rotary(jnp.cos(angles), jnp.sin(angles), "adjacent")


def _tubelets(video: Float[Array, "b T H W 3"], grid: Grid) -> Float[Array, "b n p"]:
    """The p pixels of each token: the 3-D convolution of the patches, unrolled."""
    pattern = "b (frames t) (rows h) (columns w) c -> b (frames rows columns) (t h w c)"
    return rearrange(video, pattern, **dict(zip(("frames", "rows", "columns"), grid, strict=True)))


def _keep(x: Float[Array, "b n d"], kept: Int[Array, "b m"] | None) -> Float[Array, "b m d"]:
    """The tokens at these positions; all of them for ``None``."""
    return x if kept is None else jnp.take_along_axis(x, kept[..., None], axis=1)
