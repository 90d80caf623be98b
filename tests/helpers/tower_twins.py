"""Tiny dual encoders of odd sizes, filled from weights under their published names."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax
import numpy as np

from vljepa_jax.config import (
    CLIPImageConfig,
    CLIPTextConfig,
    DualEncoderConfig,
    PECoreImageConfig,
    PECoreTextConfig,
    SigLIP2ImageConfig,
    SigLIP2TextConfig,
)
from vljepa_jax.convert import dual_encoders
from vljepa_jax.convert.rules import convert
from vljepa_jax.models.dual_encoder import DualEncoder

TOLERANCE = 1e-5

CLIP_TWIN = DualEncoderConfig(
    "clip",
    CLIPImageConfig(
        image_size=12,
        patch_size=4,
        hidden_size=18,
        num_layers=2,
        num_heads=3,
        mlp_size=30,
        family="clip_image",
    ),
    CLIPTextConfig(
        vocab_size=31,
        max_length=9,
        hidden_size=12,
        num_layers=2,
        num_heads=3,
        mlp_size=20,
        embedding_size=10,
        family="clip_text",
    ),
)
SIGLIP2_TWIN = DualEncoderConfig(
    "siglip2",
    SigLIP2ImageConfig(
        image_size=14,  # no multiple of the patch, as of So400m-patch14-384
        patch_size=4,
        hidden_size=18,
        num_layers=2,
        num_heads=3,
        mlp_size=30,
        family="siglip2_image",
    ),
    SigLIP2TextConfig(
        vocab_size=31,
        max_length=9,
        hidden_size=12,
        num_layers=2,
        num_heads=3,
        mlp_size=20,
        embedding_size=18,
        family="siglip2_text",
    ),
)
PE_CORE_TWIN = DualEncoderConfig(
    "pe_core",
    PECoreImageConfig(
        image_size=12,
        patch_size=4,
        hidden_size=16,  # heads of 8: 4 features turn with the column, 4 with the row
        num_layers=2,
        num_heads=2,
        mlp_size=30,
        class_token=True,
        family="pe_core_image",
    ),
    PECoreTextConfig(
        vocab_size=31,
        max_length=9,
        hidden_size=12,
        num_layers=2,
        num_heads=3,
        mlp_size=24,
        embedding_size=10,
        family="pe_core_text",
    ),
)
PE_CORE_G_TWIN = dataclasses.replace(
    PE_CORE_TWIN, image=dataclasses.replace(PE_CORE_TWIN.image, class_token=False)
)
TWINS = {
    "clip": CLIP_TWIN,
    "siglip2": SIGLIP2_TWIN,
    "pe_core": PE_CORE_TWIN,
    "pe_core_g": PE_CORE_G_TWIN,
}


shapes = functools.cache(dual_encoders.shapes)


def parameters(config: DualEncoderConfig, weights: Mapping[str, np.ndarray]) -> dict:
    return convert(weights, dual_encoders.table(config), shapes(config))


def inputs(config: DualEncoderConfig, seed: int, lengths: tuple[int, ...]) -> dict:
    """Normalised images, one a text; texts between the ids of their start and their end."""
    rng = np.random.default_rng(seed)
    side, last = config.image.image_size, config.text.vocab_size - 1
    images = rng.standard_normal((len(lengths), side, side, 3)).astype(np.float16)
    tokens = rng.integers(1, last - 1, (len(lengths), max(lengths))).astype(np.int32)
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    tokens[:, 0] = last - 1
    tokens[np.arange(len(lengths)), np.array(lengths) - 1] = last
    return {"images": images, "tokens": np.where(mask, tokens, 0), "mask": mask}


@functools.cache
def _runner(config: DualEncoderConfig, unroll: bool):
    model = DualEncoder(config, unroll=unroll)

    def both(module, images, tokens, mask):
        return module.embed_images(images), module.text(tokens, mask)

    def traced(params, *arrays):
        found, state = model.apply(
            {"params": params}, *arrays, method=both, mutable="intermediates"
        )
        sown = state["intermediates"]
        return found, {tower: sown[tower]["layers"]["hidden"][0] for tower in ("image", "text")}

    return jax.jit(traced)


def run(
    config: DualEncoderConfig, params: dict, arrays: Mapping[str, np.ndarray], unroll: bool = False
) -> dict[str, np.ndarray]:
    """Every layer's tokens and both embeddings, as they leave the projections.

    Returns:
        "image_hidden" [layers, b, c, d], "image" [b, e], "text_hidden" [layers, b, t, d] and "text"
        [b, e]; rows at padding are zeroed.
    """
    images = arrays["images"].astype(np.float32)
    mask = arrays["mask"]
    (image, text), hidden = _runner(config, unroll)(params, images, arrays["tokens"], mask)
    length = mask.shape[1]
    return {
        "image_hidden": np.asarray(hidden["image"]),
        "image": np.asarray(image),
        "text_hidden": np.asarray(hidden["text"])[:, :, :length] * mask[..., None],
        "text": np.asarray(text),
    }


def errors(ours: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """max |a - b| / max |b| of every layer and of both embeddings."""
    found = {}
    for name, theirs in reference.items():
        assert ours[name].shape == theirs.shape, (name, ours[name].shape, theirs.shape)
        pairs = zip(ours[name], theirs, strict=True) if "hidden" in name else [(ours[name], theirs)]
        for index, (mine, other) in enumerate(pairs):
            found[f"{name} {index}"] = float(np.abs(mine - other).max() / np.abs(other).max())
    return found
