"""The families of backbones as conversion sees them, and where each part of a model stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vljepa_jax.config import (
    DecodedTextConfig,
    DialogueConfig,
    PlainTextConfig,
    TextConfig,
    TokenTargetConfig,
    TrainConfig,
)
from vljepa_jax.convert import bert, clip, gemma, llama, pe_core, qwen3, vjepa2
from vljepa_jax.convert.rules import Table
from vljepa_jax.convert.settings import Setting
from vljepa_jax.models.parts import BACKBONES

PyTree = Any


def _nothing(config: Any) -> Any:
    del config
    return {}


def _no_refusal(config: Any) -> str:
    del config
    return ""


@dataclasses.dataclass(frozen=True)
class Family:
    """Functions of the family's config.

    Attributes:
        table: keys of the weights.
        settings: keys of config.json.
        folders: sentence-transformers' folders beside the backbone -> keys of their config.json.
        refusal: why a config has no counterpart in the Hugging Face layout, or "".
        own_pooling: whether nothing but sentence-transformers' files beside the weights tells how
            a model of the family pools, so that they must be there.
        files: names of the config and of the weights, where they lie in one file.
    """

    table: Callable[[Any], Table]
    settings: Callable[[Any], tuple[Setting, ...]]
    folders: Callable[[Any], Mapping[str, tuple[Setting, ...]]] = _nothing
    refusal: Callable[[Any], str] = _no_refusal
    own_pooling: bool = False
    files: tuple[str, str] = ("config.json", "model.safetensors")


FAMILIES = {
    "vjepa2": Family(vjepa2.table, vjepa2.settings, refusal=vjepa2.refusal),
    "vjepa2_1": Family(vjepa2.table_2_1, vjepa2.settings_2_1),
    "llama": Family(llama.table, llama.settings),
    "gemma": Family(gemma.table, gemma.settings, gemma.folders),
    "qwen3": Family(qwen3.table, qwen3.settings, qwen3.folders),
    "bert": Family(bert.table, bert.settings, bert.folders, own_pooling=True),
    "clip_image": Family(clip.image_table, clip.image_settings),
    "clip_text": Family(clip.text_table, clip.text_settings),
    "siglip2_image": Family(clip.image_table, clip.image_settings),
    "siglip2_text": Family(clip.text_table, clip.text_settings),
    "pe_core_image": Family(pe_core.image_table, pe_core.image_settings, files=pe_core.FILES),
    "pe_core_text": Family(pe_core.text_table, pe_core.text_settings, files=pe_core.FILES),
}
# A part whose directory also holds a token table -> the name of the table among the parameters.
_TOKEN_TABLES = {"predictor": "token_embedding", "y_decoder": "y_token_embedding"}
# A part that reads text -> its fields in data.text.
_TEXTS = {
    "predictor": ("query_tokenizer", "query_length"),
    "y_encoder": ("target_tokenizer", "target_length"),
}


def parts_of(model: Any) -> tuple[str, ...]:
    """The backbones that a model has: three of a VL-JEPA, one where one is trained alone."""
    return tuple(part for part in BACKBONES if hasattr(model, part))


def family_of(model: Any, part: str) -> Family:
    return FAMILIES[getattr(model, part).family]


def tokenizer_of(config: TrainConfig, part: str) -> tuple[str, int] | None:
    """The tokenizer of a part, as the config names it, and how many tokens a text may have.

    ``None`` where the part, in this objective, reads no text.
    """
    fields = _text_fields(config, part)
    if fields is None:
        return None
    tokenizer, *lengths = (getattr(config.data.text, name) for name in fields)
    return tokenizer, sum(lengths)


def tokenizer_field(config: TrainConfig, part: str) -> str | None:
    """The field of ``data.text`` that names a part's tokenizer; ``None`` as ``tokenizer_of``."""
    fields = _text_fields(config, part)
    return None if fields is None else fields[0]


def _text_fields(config: TrainConfig, part: str) -> tuple[str, ...] | None:
    """The field of a part's tokenizer, and those whose sum is the longest text."""
    text = config.data.text
    if part in _TEXTS and isinstance(text, TextConfig):
        return _TEXTS[part]
    alone = part in _TEXTS and isinstance(text, (PlainTextConfig, DialogueConfig))
    if alone or (part == "y_decoder" and isinstance(text, DecodedTextConfig)):
        return "tokenizer", "length"
    if part in _TEXTS and isinstance(text, TokenTargetConfig):
        return "tokenizer", "query_length", "target_length"
    return None


def backbone(params: PyTree, part: str) -> PyTree:
    """The parameters that a part's directory holds: a Llama's has its token table in it."""
    if part in _TOKEN_TABLES:
        return {"token_embedding": params[_TOKEN_TABLES[part]], **params[part]}
    return params[part]


def placed(tree: PyTree, part: str) -> PyTree:
    """The inverse of ``backbone``."""
    if part in _TOKEN_TABLES:
        rest = {name: child for name, child in tree.items() if name != "token_embedding"}
        return {_TOKEN_TABLES[part]: tree["token_embedding"], part: rest}
    return {part: tree}
