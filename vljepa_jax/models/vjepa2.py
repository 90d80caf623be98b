"""V-JEPA 2 and 2.1 video encoders.

Source: transformers' models/vjepa2/modeling_vjepa2.py for V-JEPA 2, and for 2.1
facebookresearch/vjepa2's app/vjepa_2_1/models/vision_transformer.py and utils/modules.py. 2.1
differs in three things: its rotary embedding is a true rotation, stretched to the grid of training;
a vector is added to every token that says video or image; and a single image has a patch embedding
of its own.

Axes: b batch, T frames, H height and W width in pixels; a token stands for a tubelet of frames and
a patch of pixels, on a grid of (frames, rows, columns); n tokens, rows and columns of the earliest
tubelet first; d width, k head size.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, Protocol

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from vljepa_jax.config import VJEPA2Config, VJEPA21Config
from vljepa_jax.models import layers
from vljepa_jax.models.attention import attention
from vljepa_jax.models.placement import by_rows

ROPE_THETA = 10_000.0
# What V-JEPA 2 was trained with, for pixels in 0 .. 1.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def normalise(
    video: UInt8[Array, "b T H W 3"] | Float[Array, "b T H W 3"],
) -> Float[Array, "b T H W 3"]:
    """What the encoder takes: uint8 pixels to ImageNet mean and deviation; floats already are."""
    if video.dtype == jnp.uint8:
        return (video.astype(jnp.float32) / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    return video


def make_x_encoder(model: Any) -> VJEPA2:
    """The X-Encoder of any model's config: its ``x_encoder``, and how it is computed."""
    return VJEPA2(model.x_encoder, jnp.dtype(model.dtype), model.remat, model.unroll_layers)


class VJEPA2(nn.Module):
    """Video [b, T, H, W, 3] -> tokens [b, n, d].

    Attributes:
        config: sizes.
        dtype: of the computation.
        remat: what the backward pass recomputes.
        unroll: compiles every layer on its own.
    """

    config: VJEPA2Config | VJEPA21Config
    dtype: Any = jnp.float32
    remat: layers.Remat = "none"
    unroll: bool = False

    @nn.compact
    def __call__(
        self, video: Float[Array, "b T H W 3"], kept: Int[Array, "b n"] | None = None
    ) -> Float[Array, "b n d"]:
        """Encodes normalised video of any length and size.

        Args:
            video: [b, T, H, W, 3], ImageNet mean and variance. A single frame is an image: V-JEPA 2
                repeats it to fill one tubelet, 2.1 embeds it in its own way. Otherwise T is a
                multiple of the tubelet, H and W of the patch.
            kept: positions of the tokens that are encoded, in the order of the tokens; the pixels
                of all others are not read. All of them where it is not given.

        Returns:
            [b, n, d] with n = T / tubelet * H / patch * W / patch (T / tubelet is 1 for an image),
            or what is kept of them, after the final norm.

        Raises:
            ValueError: a size that does not divide.
        """
        config = self.config
        if config.hidden_size % config.num_heads:
            raise ValueError(
                f"VJEPA2Config: hidden_size {config.hidden_size} is not a multiple of "
                f"num_heads {config.num_heads}"
            )

        def keep(tokens):
            return tokens if kept is None else jnp.take_along_axis(tokens, kept[..., None], axis=1)

        if config.family == "vjepa2_1":
            x, grid = self._embed_by_modality(video)
            x, rope = keep(x), "interleaved"
        else:
            if video.shape[1] == 1:
                video = jnp.repeat(video, config.tubelet_size, axis=1)
            grid = token_grid(config, video.shape[1:4])
            x = by_rows(keep(_tubelets(video.astype(self.dtype), grid)))
            x, rope = self._projection("patch_embedding")(x), config.rope
        rotary = video_rotary(
            grid,
            config.hidden_size // config.num_heads,
            rope,
            trained_side=config.image_size // config.patch_size,
        )
        if kept is not None:
            rotary = rotary.at(kept)
        stack = layers.scan_layers(
            Layer, config.num_layers, self.remat, self.unroll, (nn.broadcast,)
        )
        x, _ = stack(config, self.dtype, name="layers")(x, rotary)
        return by_rows(layers.layer_norm(config.norm_eps, self.dtype, name="norm")(x))

    def _projection(self, name: str) -> nn.Dense:
        return layers.Dense(
            self.config.hidden_size, dtype=self.dtype, kernel_init=layers.kernel_init, name=name
        )

    def _embed_by_modality(self, video):
        """Tokens [b, n, d] and their grid, by the embedding of images or that of videos (2.1)."""
        config = self.config
        unit = dataclasses.replace(config, tubelet_size=1)
        kinds = {  # single frame? -> projection, modality vector, sizes of a token
            False: ("patch_embedding", "video_modality", config),
            True: ("image_patch_embedding", "image_modality", unit),
        }

        def embed(kind: bool, frames):
            projection, modality, sizes = kinds[kind]
            grid = token_grid(sizes, frames.shape[1:4])
            x = self._projection(projection)(_tubelets(frames.astype(self.dtype), grid))
            # As upstream initialises it: all but nothing.
            start = nn.initializers.normal(1e-6)
            vector = self.param(modality, start, (config.hidden_size,), jnp.float32)
            return x + vector.astype(self.dtype), grid

        still = video.shape[1] == 1
        if self.is_initializing():  # the parameters of both, whatever the first input is
            first = video[:, :1]
            embed(not still, first if not still else jnp.repeat(first, config.tubelet_size, 1))
        return embed(still, video)


class LayerSizes(Protocol):
    """What a layer reads of a config."""

    num_layers: int
    num_heads: int
    mlp_size: int
    norm_eps: float


class Layer(nn.Module):
    """A layer of the encoder, of the predictor of masked tokens and of the attentive pooler.

    Attributes:
        config: sizes; the width is the input's.
        dtype: of the computation.
    """

    config: LayerSizes
    dtype: Any

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
            functools.partial(attention, scale=head_size**-0.5),
        )
        x += layers.MLP(
            hidden_size=config.mlp_size,
            num_layers=config.num_layers,
            activation=layers.gelu,
            gated=False,
            use_bias=True,
            dtype=self.dtype,
            name="mlp",
        )(norm(name="mlp_norm")(x))
        self.sow("intermediates", "hidden", x)
        return x, None


def token_grid(
    config: VJEPA2Config | VJEPA21Config, size: tuple[int, int, int]
) -> tuple[int, int, int]:
    """Tokens along (frames, rows, columns) of a video of ``size`` (frames, height, width).

    Raises:
        ValueError: a side is not a multiple of the tubelet or patch.
    """
    units = (config.tubelet_size, config.patch_size, config.patch_size)
    for name, length, unit in zip(("frames", "height", "width"), size, units, strict=True):
        if length < unit or length % unit:
            raise ValueError(f"video of {length} {name}: V-JEPA 2 needs a multiple of {unit}")
    return tuple(length // unit for length, unit in zip(size, units, strict=True))


def video_rotary(
    grid: tuple[int, int, int],
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


def _tubelets(video, grid):
    """[b, T, H, W, 3] -> [b, n, tubelet * patch * patch * 3]: the 3-D convolution, unrolled."""
    batch, frames, height, width, channels = video.shape
    t, h, w = frames // grid[0], height // grid[1], width // grid[2]
    video = video.reshape(batch, grid[0], t, grid[1], h, grid[2], w, channels)
    return video.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, -1, t * h * w * channels)
