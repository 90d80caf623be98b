"""Keys of PE-Core in OpenCLIP's layout (timm/PE-Core-*), which timm publishes as safetensors.

Meta's own files are pickled; docs/pe_core_pt_to_safetensors.py makes such a directory of one.
"""

from __future__ import annotations

from vljepa_jax.config import ImageTowerConfig, PECoreImageConfig, PECoreTextConfig, TextTowerConfig
from vljepa_jax.config.published_towers import PUBLISHED_TOWERS
from vljepa_jax.convert.entries import fused, linear, norm
from vljepa_jax.convert.rules import Entry, Ignored, Table
from vljepa_jax.convert.settings import Setting
from vljepa_jax.convert.transforms import POSITIONS, VECTOR, Convolution

FILES = ("open_clip_config.json", "open_clip_model.safetensors")
# timm's names of the image towers -> the repositories of the whole models.
TIMM_NAMES = {
    "vit_pe_core_tiny_patch16_384": "timm/PE-Core-T-16-384",
    "vit_pe_core_small_patch16_384": "timm/PE-Core-S-16-384",
    "vit_pe_core_base_patch16_224": "timm/PE-Core-B-16",
    "vit_pe_core_large_patch14_336": "timm/PE-Core-L-14-336",
    "vit_pe_core_gigantic_patch14_448": "timm/PE-Core-bigG-14-448",
}
OTHER_SIZES = "vit_pe_core"  # of a tower that timm has no name for

_TRUNK = "visual.trunk"
IGNORED = (Ignored(r"logit_scale", "scales scores; no embedding depends on it"),)


def image_entries(config: ImageTowerConfig) -> tuple[Entry, ...]:
    """The image tower up to its last norm."""
    block = f"{_TRUNK}.blocks.{{layer}}"
    window = (config.patch_size, config.patch_size)
    projections = tuple(f"layers/attention/{name}" for name in ("query", "key", "value"))
    found = [
        Entry(f"{_TRUNK}.patch_embed.proj.weight", "patch_embedding/kernel", Convolution(window)),
        Entry(f"{_TRUNK}.pos_embed", "position_embedding", POSITIONS),
        *norm(f"{_TRUNK}.norm_pre", "pre_norm"),
        *norm(f"{block}.norm1", "layers/attention_norm"),
        *fused(f"{block}.attn.qkv.weight", f"{block}.attn.qkv.bias", projections),
        *linear(f"{block}.attn.proj", "layers/attention/output"),
        *norm(f"{block}.norm2", "layers/mlp_norm"),
        *linear(f"{block}.mlp.fc1", "layers/mlp/up"),
        *linear(f"{block}.mlp.fc2", "layers/mlp/down"),
        *norm(f"{_TRUNK}.norm", "norm"),
    ]
    if config.class_token:
        found.append(Entry(f"{_TRUNK}.cls_token", "class_token", VECTOR))
    return tuple(found)


def head_entries(config: ImageTowerConfig) -> tuple[Entry, ...]:
    """What makes one embedding of its tokens."""
    del config
    pool = f"{_TRUNK}.attn_pool"
    return (
        Entry(f"{pool}.latent", "pool/probe", VECTOR),
        *linear(f"{pool}.q", "pool/query"),
        *fused(f"{pool}.kv.weight", f"{pool}.kv.bias", ("pool/key", "pool/value")),
        *linear(f"{pool}.proj", "pool/output"),
        *norm(f"{pool}.norm", "pool/norm"),
        *linear(f"{pool}.mlp.fc1", "pool/mlp/up"),
        *linear(f"{pool}.mlp.fc2", "pool/mlp/down"),
        *linear(f"{_TRUNK}.head", "projection"),
    )


def text_entries(config: TextTowerConfig) -> tuple[Entry, ...]:
    """The text tower with its projection."""
    del config
    block = "text.transformer.resblocks.{layer}"
    projections = tuple(f"layers/attention/{name}" for name in ("query", "key", "value"))
    attention = f"{block}.attn"
    return (
        Entry("text.token_embedding.weight", "token_embedding/embedding"),
        Entry("text.positional_embedding", "position_embedding"),
        *norm(f"{block}.ln_1", "layers/attention_norm"),
        *fused(f"{attention}.in_proj_weight", f"{attention}.in_proj_bias", projections),
        *linear(f"{attention}.out_proj", "layers/attention/output"),
        *norm(f"{block}.ln_2", "layers/mlp_norm"),
        *linear(f"{block}.mlp.c_fc", "layers/mlp/up"),
        *linear(f"{block}.mlp.c_proj", "layers/mlp/down"),
        *norm("text.ln_final", "norm"),
        Entry("text.text_projection", "projection/kernel"),  # it lies as ours does
    )


def image_table(config: PECoreImageConfig) -> Table:
    """The keys of the image tower alone, as an X-Encoder has them."""
    head = Ignored(
        r"visual\.trunk\.(?:attn_pool|head)\..*",
        "makes one vector of an image; an X-Encoder gives tokens",
    )
    return Table(image_entries(config), (*IGNORED, Ignored(r"text\..*", "the text tower"), head))


def text_table(config: PECoreTextConfig) -> Table:
    """The keys of the text tower alone, as a Y-Encoder has them."""
    return Table(text_entries(config), (*IGNORED, Ignored(r"visual\..*", "the image tower")))


def image_settings(config: PECoreImageConfig) -> tuple[Setting, ...]:
    """The keys of open_clip_config.json for the image tower, whose sizes timm's name tells.

    A tower that timm has no name for has its sizes beside it.
    """
    section = "model_cfg.vision_cfg"
    name = next(
        (n for n, r in TIMM_NAMES.items() if PUBLISHED_TOWERS[r].image == config), OTHER_SIZES
    )
    told = {
        "patch_size": config.patch_size,
        "width": config.hidden_size,
        "layers": config.num_layers,
        "head_width": config.hidden_size // config.num_heads,
        "mlp_ratio": config.mlp_size / config.hidden_size,
    }
    implied = name != OTHER_SIZES
    return (
        Setting(f"{section}.image_size", config.image_size),
        Setting(f"{section}.timm_model_name", name),
        *(
            Setting(f"{section}.{key}", value, **({"default": value} if implied else {}))
            for key, value in told.items()
        ),
        Setting(f"{section}.timm_pool", "map", checked=False),
        Setting(f"{section}.timm_proj", None, checked=False),
        *_preprocessing(config),
    )


def text_settings(config: PECoreTextConfig) -> tuple[Setting, ...]:
    """The keys of open_clip_config.json for the text tower."""
    section = "model_cfg.text_cfg"
    return (
        Setting("model_cfg.embed_dim", config.embedding_size),
        Setting(f"{section}.context_length", config.max_length, default=77),
        Setting(f"{section}.vocab_size", config.vocab_size, default=49_408),
        Setting(f"{section}.width", config.hidden_size, default=512),
        Setting(f"{section}.heads", config.num_heads, default=8),
        Setting(f"{section}.layers", config.num_layers, default=12),
        Setting(f"{section}.mlp_ratio", config.mlp_size / config.hidden_size, default=4.0),
    )


def _preprocessing(config: PECoreImageConfig) -> tuple[Setting, ...]:
    section, own = "preprocess_cfg", config.preprocessing
    return (
        Setting(f"{section}.mean", list(own.mean), checked=False),
        Setting(f"{section}.std", list(own.std), checked=False),
        Setting(f"{section}.interpolation", own.kernel, checked=False),
        Setting(f"{section}.resize_mode", own.fit, default=own.fit),
    )
