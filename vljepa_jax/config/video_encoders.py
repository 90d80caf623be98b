"""Video encoders (X-Encoders): settings, preprocessing and token grid of each family.

Nothing here imports JAX: a loader's worker takes its pixels and shapes from here, as the models do.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from vljepa_jax.config.parsing import ConfigError

# Tokens along (frames, rows, columns).
Grid = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a family was trained to see a frame; it belongs to the weights and is no setting."""

    mean: tuple[float, float, float]  # of red, green and blue in 0 .. 1
    std: tuple[float, float, float]
    # What becomes the square: the largest one at the centre (the short side is resized, then the
    # long one is cropped), or the whole frame, whatever its aspect ratio.
    fit: Literal["short_side", "squash"]
    kernel: Literal["bilinear", "bicubic"]  # of the resize, always antialiased


class _Tubelets:
    """Preprocessing and token grid that V-JEPA 2 and 2.1 share."""

    preprocessing = Preprocessing(
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        fit="short_side",
        kernel="bilinear",
    )

    @property
    def trained_side(self) -> int:
        """Rows and columns of the token grid of training."""
        return self.image_size // self.patch_size

    def token_grid(self, frames: int, height: int, width: int) -> Grid:
        """Tokens of a clip; a single frame is an image, and one token deep, as is each of frames
        that are seen apart.

        Args:
            frames: of the clip.
            height: pixels.
            width: pixels.

        Raises:
            ConfigError: a side is not a multiple of the tubelet or patch.
        """
        size = {
            "frames": (frames, 1 if frames == 1 or self.frames == "apart" else self.tubelet_size),
            "height": (height, self.patch_size),
            "width": (width, self.patch_size),
        }
        for name, (length, unit) in size.items():
            if length < unit or length % unit:
                raise ConfigError(f"{name} = {length}: V-JEPA 2 takes a multiple of {unit}")
        return tuple(length // unit for length, unit in size.values())


@dataclasses.dataclass(frozen=True)
class VJEPA2Config(_Tubelets):
    """V-JEPA 2 video encoder."""

    family: Literal["vjepa2"]
    image_size: int  # pixels, the short side at which positions were trained (square input)
    num_frames: int  # frames of the recipe's input; any even number works at run time
    patch_size: int  # pixels
    tubelet_size: int  # frames per token
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    norm_eps: float
    rope: Literal["tiled", "interleaved"]  # "tiled": as published; "interleaved": as in 2.1
    # "apart": each frame is encoded as an image, and none sees another. Runs of before have no such
    # field.
    frames: Literal["together", "apart"] = "together"


@dataclasses.dataclass(frozen=True)
class VJEPA21Config(_Tubelets):
    """V-JEPA 2.1 video and image encoder."""

    rope = "interleaved"  # always: no field
    frames = "together"  # likewise

    family: Literal["vjepa2_1"]
    image_size: int  # pixels, the side to whose grid positions are stretched; published: 256
    num_frames: int  # frames of the recipe's input: 1 for images, or any even number
    patch_size: int  # pixels
    tubelet_size: int  # frames per token of a video; a single image has its own embedding
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    norm_eps: float


# Every family; ``models.video_encoder`` has the module of each. What is read of all alike: the
# fields ``family`` and ``hidden_size``, the attribute ``preprocessing``, the method ``token_grid``.
XEncoderConfig = VJEPA2Config | VJEPA21Config
