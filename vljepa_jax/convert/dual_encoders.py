"""Directories of published dual encoders: what they hold, and their weights in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vljepa_jax.config import (
    CLIPImageConfig,
    CLIPTextConfig,
    ConfigError,
    DualEncoderConfig,
    PECoreTextConfig,
    SigLIP2ImageConfig,
    SigLIP2TextConfig,
    parse,
)
from vljepa_jax.config.published_towers import PUBLISHED_TOWERS
from vljepa_jax.convert import clip, pe_core
from vljepa_jax.convert.rules import ConversionError, Entry, Table
from vljepa_jax.convert.safetensors_folder import SafetensorsFolder, fill_from, read_json
from vljepa_jax.convert.settings import mismatches
from vljepa_jax.models.dual_encoder import DualEncoder

PyTree = Any


def table(config: DualEncoderConfig) -> Table:
    """The keys of both towers."""
    keys = pe_core if config.family == "pe_core" else clip
    return Table(
        (
            *_under("image", keys.image_entries(config.image)),
            *_under("head", keys.head_entries(config.image)),
            *_under("text", keys.text_entries(config.text)),
        ),
        keys.IGNORED,
    )


def _under(root: str, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return tuple(dataclasses.replace(entry, path=f"{root}/{entry.path}") for entry in entries)


def is_dual_encoder(directory: Path) -> bool:
    """Whether it holds published weights: config.json or open_clip_config.json says so."""
    if (directory / pe_core.FILES[0]).is_file():
        return True
    settings, _ = read_json(directory / "config.json")
    return settings is not None and "model_type" in settings


def read_config(directory: Path) -> DualEncoderConfig:
    """The sizes of a published dual encoder, from its config.json or open_clip_config.json.

    Raises:
        ConversionError: the file is missing or no JSON, is of an unknown family, or says something
            that the family does not do; it names file, key and what is expected.
    """
    whole = directory / pe_core.FILES[0]
    path = whole if whole.is_file() else directory / "config.json"
    settings, faults = read_json(path)
    if settings is None:
        raise ConversionError(faults)
    try:
        config, expected = (_pe_core if path == whole else _clip)(settings)
    except ConfigError as error:
        raise ConversionError([f"{path}: {line}" for line in str(error).splitlines()]) from error
    if faults := mismatches(settings, expected):
        raise ConversionError([f"{path}: {fault}" for fault in faults])
    return config


def read_dual_encoder(directory: Path) -> tuple[DualEncoderConfig, PyTree]:
    """Config and parameters (numpy, float32) of published weights, read tensor by tensor.

    Raises:
        ConversionError: as ``read_config``, or a file, a shard or a key does not fit.
    """
    config = read_config(directory)
    folder = {"": SafetensorsFolder(directory)}
    filled, faults = fill_from(directory, folder, table(config), shapes(config))
    if faults:
        raise ConversionError(faults)
    return config, filled.tree


def shapes(config: DualEncoderConfig) -> PyTree:
    """The parameters' shapes and types; nothing is allocated."""
    side = config.image.image_size
    video = jnp.zeros((1, 1, side, side, 3), jnp.uint8)
    tokens = jnp.zeros((1, 2), jnp.int32)
    init = DualEncoder(config).init
    return jax.eval_shape(init, jax.random.key(0), video, tokens, tokens > 0)["params"]


def _section(settings: dict[str, Any], key: str) -> dict[str, Any]:
    """A section, empty where it is absent or no object: what it should have is missed then."""
    found = settings.get(key)
    return found if isinstance(found, dict) else {}


def _clip(settings: dict[str, Any]) -> tuple[DualEncoderConfig, tuple]:
    kind = settings.get("model_type")
    if kind == "siglip2":
        raise ConfigError(
            "model_type: is 'siglip2', which is a NaFlex checkpoint (any aspect ratio); only those "
            "of a fixed resolution are read, whose model_type is 'siglip'"
        )
    if kind not in ("clip", "siglip"):
        raise ConfigError(
            f"model_type: is {kind!r}, where 'clip' or 'siglip' (SigLIP 2) is expected; of PE-Core "
            f"the directory holds {pe_core.FILES[0]}"
        )
    found = clip.sizes(settings)
    name = "clip" if kind == "clip" else "siglip2"
    of_image = CLIPImageConfig if kind == "clip" else SigLIP2ImageConfig
    of_text = CLIPTextConfig if kind == "clip" else SigLIP2TextConfig
    image = parse(of_image, {**found["vision_config"], "family": f"{name}_image"})
    text = parse(of_text, {**found["text_config"], "family": f"{name}_text"})
    expected = (*clip.image_settings(image), *clip.text_settings(text))
    return DualEncoderConfig(name, image, text), expected


def _pe_core(settings: dict[str, Any]) -> tuple[DualEncoderConfig, tuple]:
    model = _section(settings, "model_cfg")
    name = _section(model, "vision_cfg").get("timm_model_name")
    if name not in pe_core.TIMM_NAMES:
        raise ConfigError(
            f"model_cfg.vision_cfg.timm_model_name: is {name!r}, where one of "
            f"{', '.join(pe_core.TIMM_NAMES)} is expected"
        )
    published = PUBLISHED_TOWERS[pe_core.TIMM_NAMES[name]]
    own = _section(model, "text_cfg")
    width, ratio = own.get("width", 512), own.get("mlp_ratio", 4.0)
    for key, value in (("width", width), ("mlp_ratio", ratio)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"model_cfg.text_cfg.{key}: is {value!r}, where a number is expected")
    text = parse(
        PECoreTextConfig,
        {
            "family": "pe_core_text",
            "vocab_size": own.get("vocab_size", 49_408),
            "max_length": own.get("context_length", 77),
            "hidden_size": width,
            "num_layers": own.get("layers", 12),
            "num_heads": own.get("heads", 8),
            "mlp_size": int(ratio * width),
            "embedding_size": model.get("embed_dim"),
        },
    )
    expected = (*pe_core.image_settings(published.image), *pe_core.text_settings(text))
    return DualEncoderConfig("pe_core", published.image, text), expected
