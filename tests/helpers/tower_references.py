"""The reference dual encoders on torch, tiny and with every parameter random.

CLIP and SigLIP 2 are transformers'; PE-Core's image tower is timm's and its text tower OpenCLIP's,
put together as OpenCLIP does it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

import tests.helpers.torchvision_operators  # noqa: F401 (before transformers)
from tests.helpers.reference_twins import record, weights_of

# isort: split
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from vljepa_jax.config import DualEncoderConfig, ImageTowerConfig, TextTowerConfig


def _sizes(config: ImageTowerConfig | TextTowerConfig) -> dict:
    return {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_size,
    }


def _vision(config: ImageTowerConfig) -> dict:
    sizes = {"image_size": config.image_size, "patch_size": config.patch_size}
    return _sizes(config) | sizes


def _text(config: TextTowerConfig, end: int) -> dict:
    ids = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": 0}
    lengths = {"vocab_size": config.vocab_size, "max_position_embeddings": config.max_length}
    return _sizes(config) | ids | lengths


def clip_reference(config: DualEncoderConfig, attention: str = "eager") -> CLIPModel:
    text = _text(config.text, config.text.vocab_size - 1)
    own = CLIPConfig(
        vision_config=_vision(config.image),
        text_config=text,
        projection_dim=config.text.embedding_size,
        attn_implementation=attention,
    )
    return CLIPModel(own).eval()


def siglip2_reference(config: DualEncoderConfig, attention: str = "eager") -> SiglipModel:
    text = _text(config.text, 1) | {"projection_size": config.text.embedding_size}
    own = SiglipConfig(
        vision_config=_vision(config.image), text_config=text, attn_implementation=attention
    )
    return SiglipModel(own).eval()


class PECore(torch.nn.Module):
    """Its state dict is that of OpenCLIP's model."""

    def __init__(self, config: DualEncoderConfig) -> None:
        super().__init__()
        import timm
        from open_clip.transformer import TextTransformer

        image, text = config.image, config.text
        of_class_token = "tiny_patch16_384" if image.class_token else "gigantic_patch14_448"
        self.visual = torch.nn.Module()
        self.visual.trunk = timm.create_model(
            f"vit_pe_core_{of_class_token}",
            img_size=image.image_size,
            patch_size=image.patch_size,
            embed_dim=image.hidden_size,
            depth=image.num_layers,
            num_heads=image.num_heads,
            mlp_ratio=image.mlp_size / image.hidden_size,
            ref_feat_shape=(image.side, image.side),
            num_classes=text.embedding_size,
        )
        self.text = TextTransformer(
            context_length=text.max_length,
            vocab_size=text.vocab_size,
            width=text.hidden_size,
            heads=text.num_heads,
            layers=text.num_layers,
            mlp_ratio=text.mlp_size / text.hidden_size,
            output_dim=text.embedding_size,
        )
        self.logit_scale = torch.nn.Parameter(torch.zeros(()))


def pe_core_reference(config: DualEncoderConfig) -> PECore:
    return PECore(config).eval()


REFERENCES = {
    "clip": clip_reference,
    "siglip2": siglip2_reference,
    "pe_core": pe_core_reference,
}


def reference_of(config: DualEncoderConfig, seed: int) -> tuple[torch.nn.Module, dict]:
    """A reference with every parameter random, and its weights under their published names."""
    model = REFERENCES[config.family](config)
    return model, weights_of(model, seed)


@torch.no_grad()
def run_reference(
    config: DualEncoderConfig, model: torch.nn.Module, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """As ``tower_twins.run``."""
    pixels = torch.tensor(arrays["images"].astype(np.float32)).permute(0, 3, 1, 2)
    mask = arrays["mask"]
    tokens = torch.tensor(arrays["tokens"], dtype=torch.long)
    if config.family == "pe_core":
        blocks = model.visual.trunk.blocks, model.text.transformer.resblocks
    else:
        blocks = model.vision_model.encoder.layers, model.text_model.encoder.layers
    if config.family == "siglip2":  # trained on full length, without a mask
        tokens = torch.nn.functional.pad(tokens, (0, config.text.max_length - tokens.shape[1]))
    hidden = [record(own) for own in blocks]
    image, text = embed_images(model, pixels), embed_texts(model, tokens)
    of_image, of_text = (finish() for finish in hidden)
    return {
        "image_hidden": of_image,
        "image": image.numpy(),
        "text_hidden": of_text[:, :, : mask.shape[1]] * mask[..., None],
        "text": text.numpy(),
    }


def embed_images(model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Of normalised images [m, 3, H, W], as they leave the projection."""
    if isinstance(model, PECore):
        return model.visual.trunk(pixels)
    return _pooled(model.get_image_features(pixel_values=pixels))


def embed_texts(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Of tokens [m, t], as they leave the projection."""
    if isinstance(model, PECore):
        return model.text(tokens)
    return _pooled(model.get_text_features(input_ids=tokens))


def _pooled(found) -> torch.Tensor:
    """transformers 5 gives the features as ``pooler_output``, earlier ones as they are."""
    return getattr(found, "pooler_output", found)
