"""Sizes of the published dual encoders, by the name of their repository on the Hugging Face Hub.

An image tower or a text tower of these is also a backbone: ``PUBLISHED_TOWERS[name].image``.
"""

from __future__ import annotations

from vljepa_jax.config.models import (
    CLIPTextConfig,
    DualEncoderConfig,
    PECoreTextConfig,
    SigLIP2TextConfig,
)
from vljepa_jax.config.video_encoders import (
    CLIPImageConfig,
    PECoreImageConfig,
    SigLIP2ImageConfig,
)


def _clip(image_size: int, patch_size: int, image: tuple, text: tuple) -> DualEncoderConfig:
    return DualEncoderConfig(
        "clip",
        CLIPImageConfig(image_size, patch_size, *image, family="clip_image"),
        CLIPTextConfig(49_408, 77, *text, family="clip_text"),
    )


def _siglip2(image_size: int, patch_size: int, image: tuple, text: tuple) -> DualEncoderConfig:
    return DualEncoderConfig(
        "siglip2",
        SigLIP2ImageConfig(image_size, patch_size, *image, family="siglip2_image"),
        SigLIP2TextConfig(256_000, 64, *text, family="siglip2_text"),
    )


def _pe_core(
    image_size: int, patch_size: int, image: tuple, length: int, text: tuple
) -> DualEncoderConfig:
    has_class_token = image[0] < 1536
    return DualEncoderConfig(
        "pe_core",
        PECoreImageConfig(
            image_size, patch_size, *image, class_token=has_class_token, family="pe_core_image"
        ),
        PECoreTextConfig(49_408, length, *text, family="pe_core_text"),
    )


# Width, layers, heads, width of the MLP; of text also the size of the embedding.
_B, _L = (768, 12, 12, 3072), (1024, 24, 16, 4096)
_SO400M, _GIANT = (1152, 27, 16, 4304), (1536, 40, 16, 6144)
_CLIP_B, _CLIP_L = (512, 12, 8, 2048, 512), (768, 12, 12, 3072, 768)
_PE_SMALL, _PE_LARGE = (512, 12, 8, 2048, 512), (1024, 24, 16, 4096, 1024)

PUBLISHED_TOWERS = {
    "openai/clip-vit-base-patch32": _clip(224, 32, _B, _CLIP_B),
    "openai/clip-vit-base-patch16": _clip(224, 16, _B, _CLIP_B),
    "openai/clip-vit-large-patch14": _clip(224, 14, _L, _CLIP_L),
    "openai/clip-vit-large-patch14-336": _clip(336, 14, _L, _CLIP_L),
    "google/siglip2-base-patch32-256": _siglip2(256, 32, _B, (*_B, 768)),
    **{
        f"google/siglip2-base-patch16-{side}": _siglip2(side, 16, _B, (*_B, 768))
        for side in (224, 256, 384, 512)
    },
    **{
        f"google/siglip2-large-patch16-{side}": _siglip2(side, 16, _L, (*_L, 1024))
        for side in (256, 384, 512)
    },
    **{
        f"google/siglip2-so400m-patch{patch}-{side}": _siglip2(
            side, patch, _SO400M, (*_SO400M, 1152)
        )
        for patch, sides in ((14, (224, 384)), (16, (256, 384, 512)))
        for side in sides
    },
    **{
        f"google/siglip2-giant-opt-patch16-{side}": _siglip2(side, 16, _GIANT, (*_SO400M, 1536))
        for side in (256, 384)
    },
    "timm/PE-Core-T-16-384": _pe_core(384, 16, (192, 12, 3, 768), 32, _PE_SMALL),
    "timm/PE-Core-S-16-384": _pe_core(384, 16, (384, 12, 6, 1536), 32, _PE_SMALL),
    "timm/PE-Core-B-16": _pe_core(224, 16, _B, 32, _PE_LARGE),
    "timm/PE-Core-L-14-336": _pe_core(336, 14, _L, 32, _PE_LARGE),
    "timm/PE-Core-bigG-14-448": _pe_core(
        448, 14, (1536, 50, 16, 8960), 72, (1280, 24, 20, 5120, 1280)
    ),
}
