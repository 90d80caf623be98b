"""Keys of CLIP and SigLIP 2 in the Hugging Face layout, whose towers are laid out alike.

For ``models.image_towers``, ``models.text_towers`` and, of both towers together,
``models.dual_encoder``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vljepa_jax.config import (
    CLIPImageConfig,
    CLIPTextConfig,
    ImageTowerConfig,
    SigLIP2ImageConfig,
    SigLIP2TextConfig,
    TextTowerConfig,
)
from vljepa_jax.convert.entries import fused, linear, norm
from vljepa_jax.convert.rules import Entry, Ignored, Table
from vljepa_jax.convert.settings import Setting
from vljepa_jax.convert.transforms import LINEAR, VECTOR, Convolution

_LINEARS = {
    "self_attn.q_proj": "attention/query",
    "self_attn.k_proj": "attention/key",
    "self_attn.v_proj": "attention/value",
    "self_attn.out_proj": "attention/output",
    "mlp.fc1": "mlp/up",
    "mlp.fc2": "mlp/down",
}
_NORMS = {"layer_norm1": "attention_norm", "layer_norm2": "mlp_norm"}

SCORES = Ignored(r"logit_(?:scale|bias)", "scales scores; no embedding depends on it")
_PLACES = Ignored(r"(?:text|vision)_model\.embeddings\.position_ids", "counted, not learned")
_OTHER_TEXT = Ignored(
    r"text_(?:model|projection)\.(?!embeddings\.position_ids).*", "the text tower"
)
_OTHER_IMAGE = Ignored(
    r"(?:vision_model|visual_projection)\.(?!embeddings\.position_ids).*", "the image tower"
)
_HEAD = Ignored(
    r"(?:vision_model\.head|visual_projection)\..*",
    "makes one vector of an image; an X-Encoder gives tokens",
)

# Section of config.json -> our field -> its key there, and what transformers takes without it.
_SIZES = {
    "clip": {
        "vision_config": {
            "image_size": ("image_size", 224),
            "patch_size": ("patch_size", 32),
            "hidden_size": ("hidden_size", 768),
            "num_layers": ("num_hidden_layers", 12),
            "num_heads": ("num_attention_heads", 12),
            "mlp_size": ("intermediate_size", 3072),
        },
        "text_config": {
            "vocab_size": ("vocab_size", 49_408),
            "max_length": ("max_position_embeddings", 77),
            "hidden_size": ("hidden_size", 512),
            "num_layers": ("num_hidden_layers", 12),
            "num_heads": ("num_attention_heads", 8),
            "mlp_size": ("intermediate_size", 2048),
        },
    },
    "siglip": {
        "vision_config": {
            "image_size": ("image_size", 224),
            "patch_size": ("patch_size", 16),
            "hidden_size": ("hidden_size", 768),
            "num_layers": ("num_hidden_layers", 12),
            "num_heads": ("num_attention_heads", 12),
            "mlp_size": ("intermediate_size", 3072),
        },
        "text_config": {
            "vocab_size": ("vocab_size", 32_000),
            "max_length": ("max_position_embeddings", 64),
            "hidden_size": ("hidden_size", 768),
            "num_layers": ("num_hidden_layers", 12),
            "num_heads": ("num_attention_heads", 12),
            "mlp_size": ("intermediate_size", 3072),
        },
    },
}
_ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu_tanh": "gelu_pytorch_tanh", "gelu": "gelu"}


# ---------------------------------------------------------------------------------------------
# Keys
# ---------------------------------------------------------------------------------------------
def _layers(tower: str) -> Iterator[Entry]:
    layer = f"{tower}.encoder.layers.{{layer}}"
    for theirs, ours in _LINEARS.items():
        yield from linear(f"{layer}.{theirs}", f"layers/{ours}")
    for theirs, ours in _NORMS.items():
        yield from norm(f"{layer}.{theirs}", f"layers/{ours}")


def image_entries(config: ImageTowerConfig) -> tuple[Entry, ...]:
    """An image tower up to its last norm."""
    embeddings = "vision_model.embeddings"
    window = (config.patch_size, config.patch_size)
    patches = f"{embeddings}.patch_embedding"
    found = [
        Entry(f"{patches}.weight", "patch_embedding/kernel", Convolution(window)),
        Entry(f"{embeddings}.position_embedding.weight", "position_embedding"),
        *_layers("vision_model"),
        *norm("vision_model.post_layernorm", "norm"),
    ]
    if config.patch_bias:
        found.append(Entry(f"{patches}.bias", "patch_embedding/bias"))
    if config.class_token:
        found.append(Entry(f"{embeddings}.class_embedding", "class_token"))
    if config.pre_norm:  # as upstream spells it
        found += norm("vision_model.pre_layrnorm", "pre_norm")
    return tuple(found)


def head_entries(config: ImageTowerConfig) -> tuple[Entry, ...]:
    """What makes one embedding of its tokens."""
    if config.pooling == "class_token":
        return (Entry("visual_projection.weight", "projection/kernel", LINEAR),)
    head = "vision_model.head"
    return (
        Entry(f"{head}.probe", "pool/probe", VECTOR),
        *fused(
            f"{head}.attention.in_proj_weight",
            f"{head}.attention.in_proj_bias",
            ("pool/query", "pool/key", "pool/value"),
        ),
        *linear(f"{head}.attention.out_proj", "pool/output"),
        *norm(f"{head}.layernorm", "pool/norm"),
        *linear(f"{head}.mlp.fc1", "pool/mlp/up"),
        *linear(f"{head}.mlp.fc2", "pool/mlp/down"),
    )


def text_entries(config: TextTowerConfig) -> tuple[Entry, ...]:
    """A text tower with its projection."""
    embeddings = "text_model.embeddings"
    projection = (
        linear("text_model.head", "projection")
        if config.projection_bias
        else (Entry("text_projection.weight", "projection/kernel", LINEAR),)
    )
    return (
        Entry(f"{embeddings}.token_embedding.weight", "token_embedding/embedding"),
        Entry(f"{embeddings}.position_embedding.weight", "position_embedding"),
        *_layers("text_model"),
        *norm("text_model.final_layer_norm", "norm"),
        *projection,
    )


def image_table(config: ImageTowerConfig) -> Table:
    """The keys of an image tower alone, as an X-Encoder has them."""
    return Table(image_entries(config), (SCORES, _PLACES, _OTHER_TEXT, _HEAD))


def text_table(config: TextTowerConfig) -> Table:
    """The keys of a text tower alone, as a Y-Encoder has them."""
    return Table(text_entries(config), (SCORES, _PLACES, _OTHER_IMAGE))


IGNORED = (SCORES, _PLACES)  # where both towers are used


# ---------------------------------------------------------------------------------------------
# config.json
# ---------------------------------------------------------------------------------------------
def image_settings(config: CLIPImageConfig | SigLIP2ImageConfig) -> tuple[Setting, ...]:
    """The keys of config.json (transformers' CLIPConfig, SiglipConfig) for the image tower."""
    return _settings(config, "vision_config")


def text_settings(config: CLIPTextConfig | SigLIP2TextConfig) -> tuple[Setting, ...]:
    """Those for the text tower."""
    found = _settings(config, "text_config")
    if isinstance(config, CLIPTextConfig):
        return (*found, Setting("projection_dim", config.embedding_size, default=512))
    size = config.embedding_size
    default = config.hidden_size
    return (*found, Setting("text_config.projection_size", size, default=default))


def _settings(config: ImageTowerConfig | TextTowerConfig, section: str) -> tuple[Setting, ...]:
    kind = "clip" if isinstance(config, (CLIPImageConfig, CLIPTextConfig)) else "siglip"
    activation, eps = ("quick_gelu", 1e-5) if kind == "clip" else ("gelu_pytorch_tanh", 1e-6)
    sizes = (
        Setting(f"{section}.{key}", getattr(config, field), default=default)
        for field, (key, default) in _SIZES[kind][section].items()
    )
    return (
        Setting("model_type", kind),
        Setting("architectures", ["CLIPModel" if kind == "clip" else "SiglipModel"], checked=False),
        *sizes,
        Setting(f"{section}.hidden_act", _ACTIVATIONS[config.activation], default=activation),
        Setting(f"{section}.layer_norm_eps", config.norm_eps, default=eps),
    )


def sizes(published: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a config.json of model_type "clip" or "siglip" says: section -> our field -> value."""
    found = {}
    for section, fields in _SIZES[published["model_type"]].items():
        own = published.get(section) or {}
        found[section] = {f: own.get(key, default) for f, (key, default) in fields.items()}
    if published["model_type"] == "clip":
        size = published.get("projection_dim", 512)
    else:
        own = published.get("text_config") or {}
        size = own.get("projection_size") or found["text_config"]["hidden_size"]
    found["text_config"]["embedding_size"] = size
    return found
