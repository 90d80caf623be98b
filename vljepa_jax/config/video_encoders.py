"""Video encoders (X-Encoders): settings, preprocessing and token grid of each family.

Nothing here imports JAX: a loader's worker takes its pixels and shapes from here, as the models do.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from vljepa_jax.config.parsing import ConfigError

# Tokens along (frames, rows, columns).
Grid = tuple[int, int, int]
Fit = Literal["short_side", "resize_crop", "squash"]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a family was trained to see a frame; it belongs to the weights and is no setting."""

    mean: tuple[float, float, float]  # of red, green and blue in 0 .. 1
    std: tuple[float, float, float]
    # What becomes the square: the largest one at the centre, in one step; the same in two, as CLIP
    # does it (the short side is resized, then the long one is cropped at a whole pixel); or the
    # whole frame, whatever its aspect ratio.
    fit: Fit
    kernel: Literal["bilinear", "bicubic"]  # of the resize, always antialiased


def check_tower(config: Any) -> None:
    """Raises ConfigError where a tower's sizes cannot be."""
    sizes = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    for name, size in sizes.items():
        if isinstance(size, int) and not isinstance(size, bool) and size < 1:
            raise ConfigError(f"{name} = {size} must be at least 1")
    if config.hidden_size % config.num_heads:
        raise ConfigError(
            f"num_heads = {config.num_heads} must divide hidden_size = {config.hidden_size}"
        )


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


@dataclasses.dataclass(frozen=True)
class ImageTowerConfig:
    """An image tower of a dual encoder: a ViT over the patches of one image of fixed size.

    What all models of a publisher have in common are attributes of its class and no fields.
    """

    image_size: int  # pixels, of both sides
    patch_size: int  # pixels
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int

    preprocessing = Preprocessing(
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), fit="squash", kernel="bilinear"
    )
    norm_eps = 1e-5
    activation = "gelu"
    patch_bias = False
    pre_norm = False  # a norm before the first layer
    rotary = False  # beside the learned positions
    pooling = "attention"  # or "class_token"
    projection = "none"  # or "without_bias", "with_bias"

    def __post_init__(self) -> None:
        check_tower(self)
        if self.image_size < self.patch_size:
            raise ConfigError(
                f"image_size = {self.image_size} is less than patch_size = {self.patch_size}"
            )

    @property
    def side(self) -> int:
        """Rows and columns of patches; the pixels behind the last whole one are not read."""
        return self.image_size // self.patch_size

    @property
    def pool_heads(self) -> int:
        """Heads of the attention pooling."""
        return self.num_heads

    @property
    def pool_mlp_size(self) -> int:
        """Width of its MLP."""
        return self.mlp_size

    def token_grid(self, frames: int, height: int, width: int) -> Grid:
        """Tokens of a clip, every frame by itself; the class token is none of them.

        Raises:
            ConfigError: the frames have another size than the tower's, whose positions are learned.
        """
        if {height, width} != {self.image_size}:
            raise ConfigError(
                f"{height} x {width} pixels: this {type(self).__name__} takes image_size = "
                f"{self.image_size}, for which its positions were trained"
            )
        return frames, self.side, self.side


@dataclasses.dataclass(frozen=True)
class CLIPImageConfig(ImageTowerConfig):
    """CLIP."""

    family: Literal["clip_image"]

    preprocessing = Preprocessing(
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        fit="resize_crop",
        kernel="bicubic",
    )
    activation = "quick_gelu"
    class_token = True
    pre_norm = True
    pooling = "class_token"
    projection = "without_bias"


@dataclasses.dataclass(frozen=True)
class SigLIP2ImageConfig(ImageTowerConfig):
    """SigLIP 2 at a fixed resolution."""

    family: Literal["siglip2_image"]

    norm_eps = 1e-6
    activation = "gelu_tanh"
    patch_bias = True
    class_token = False


@dataclasses.dataclass(frozen=True)
class PECoreImageConfig(ImageTowerConfig):
    """PE-Core; also an X-Encoder."""

    family: Literal["pe_core_image"]
    class_token: bool  # of all but G14-448

    pre_norm = True
    rotary = True
    projection = "with_bias"
    pool_heads = 8

    @property
    def pool_mlp_size(self) -> int:
        """Width of the MLP of the attention pooling."""
        return 4 * self.hidden_size


# Every family; ``models.video_encoder`` has the module of each. What is read of all alike: the
# fields ``family`` and ``hidden_size``, the attribute ``preprocessing``, the method ``token_grid``.
XEncoderConfig = VJEPA2Config | VJEPA21Config | PECoreImageConfig
