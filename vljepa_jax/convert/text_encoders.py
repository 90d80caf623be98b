"""The sizes of a published text encoder, from its own files, for who has no recipe of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vljepa_jax import json_text
from vljepa_jax.config import BertConfig, ConfigError, YEncoderConfig, parse
from vljepa_jax.config.published_sizes import PUBLISHED
from vljepa_jax.convert import sentence_transformers
from vljepa_jax.convert.families import FAMILIES
from vljepa_jax.convert.rules import ConversionError
from vljepa_jax.convert.safetensors_folder import read_json
from vljepa_jax.convert.settings import mismatches

_POOLING = "1_Pooling/config.json"
_POOLINGS = ("mean", "cls", "lasttoken", "max")
# transformers' name of an architecture -> our family, whose published sizes are looked through.
_FAMILIES = {"gemma3_text": "gemma", "qwen3": "qwen3"}


def text_encoder_config(directory: Path) -> YEncoderConfig:
    """The config of the text encoder in a directory of sentence-transformers' layout.

    Any BERT, and of other families those whose sizes the package knows.

    Raises:
        ConversionError: a file is missing or damaged, or says something that no Y-Encoder does.
    """
    path = directory / "config.json"
    found, faults = read_json(path)
    if found is None:
        raise ConversionError(faults)
    kind = found.get("model_type")
    if kind == "bert":
        return _bert(directory, found)
    if kind in _FAMILIES:
        return _known(path, found, _FAMILIES[kind])
    raise ConversionError(
        [
            f"{path}: model_type is {kind!r}; a Y-Encoder is a {', '.join(('bert', *_FAMILIES))}, "
            "as all-MiniLM-L6-v2, EmbeddingGemma and Qwen3-Embedding are"
        ]
    )


def _bert(directory: Path, found: dict[str, Any]) -> BertConfig:
    sizes = {
        "vocab_size": found.get("vocab_size"),
        "max_length": found.get("max_position_embeddings"),
        "type_vocab_size": found.get("type_vocab_size", 2),
        "hidden_size": found.get("hidden_size"),
        "num_layers": found.get("num_hidden_layers"),
        "num_heads": found.get("num_attention_heads"),
        "mlp_size": found.get("intermediate_size"),
        "norm_eps": found.get("layer_norm_eps", 1e-12),
    }
    pooling, normalised = _pooling(directory), _normalised(directory)
    try:
        return parse(
            BertConfig, {"family": "bert", "pooling": pooling, "normalised": normalised} | sizes
        )
    except ConfigError as error:
        raise ConversionError([f"{directory / 'config.json'}: {error}"]) from error


def _pooling(directory: Path) -> str:
    path = directory / _POOLING
    found, faults = read_json(path)
    if found is None:
        raise ConversionError([f"{fault}; it says how the model pools" for fault in faults])
    mode = sentence_transformers.with_mode(found).get("pooling_mode")
    if mode not in _POOLINGS:
        raise ConversionError(
            [
                f"{path}: pools by {mode!r}, and a Y-Encoder by one of {', '.join(_POOLINGS)}: "
                "take another model"
            ]
        )
    return mode


def _normalised(directory: Path) -> bool:
    """Whether the last module is a Normalize; what stands between is compared with the weights."""
    try:
        listed = json_text.read_json(directory / sentence_transformers.MODULES, list)
    except (json_text.JSONError, OSError) as error:
        raise ConversionError([f"{error}; it says how the model pools"]) from error
    last = listed[-1] if listed else None
    return isinstance(last, dict) and str(last.get("type")).endswith("Normalize")


def _known(path: Path, found: dict[str, Any], family: str) -> YEncoderConfig:
    """The published model of a family whose config.json this is."""
    known = {name: own for name, own in PUBLISHED.items() if own.family == family}
    faults = {
        name: mismatches(found, FAMILIES[family].settings(own)) for name, own in known.items()
    }
    nearest = min(faults, key=lambda name: len(faults[name]))
    if not faults[nearest]:
        return known[nearest]
    raise ConversionError(
        [f"{path}, compared with {nearest}: {fault}" for fault in faults[nearest]]
    )
