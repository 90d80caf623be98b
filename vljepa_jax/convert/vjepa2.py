"""Keys of V-JEPA 2 in the Hugging Face layout (facebook/vjepa2-*), for ``models.vjepa2.VJEPA2``.

V-JEPA 2.1 has no such layout: transformers has no class for it. Its table is that of the
directories that docs/vjepa2_pt_to_safetensors.py makes: the keys of V-JEPA 2, and what 2.1 adds
under the names of the original files.
"""

from collections.abc import Iterator

from vljepa_jax.config import VJEPA2Config, VJEPA21Config
from vljepa_jax.convert.entries import linear, norm
from vljepa_jax.convert.rules import Entry, Ignored, Table
from vljepa_jax.convert.settings import Setting
from vljepa_jax.convert.transforms import VECTOR, Convolution

_LAYER = "encoder.layer.{layer}"
_LINEARS = {
    "attention.query": "attention/query",
    "attention.key": "attention/key",
    "attention.value": "attention/value",
    "attention.proj": "attention/output",
    "mlp.fc1": "mlp/up",
    "mlp.fc2": "mlp/down",
}
_NORMS = {"norm1": "attention_norm", "norm2": "mlp_norm"}


def _patches(
    theirs: str, ours: str, config: VJEPA2Config | VJEPA21Config, frames: int
) -> tuple[Entry, ...]:
    window = (frames, config.patch_size, config.patch_size)
    return (
        Entry(f"{theirs}.proj.weight", f"{ours}/kernel", Convolution(window)),
        Entry(f"{theirs}.proj.bias", f"{ours}/bias"),
    )


def _layers() -> Iterator[Entry]:
    for theirs, ours in _LINEARS.items():
        yield from linear(f"{_LAYER}.{theirs}", f"layers/{ours}")
    for theirs, ours in _NORMS.items():
        yield from norm(f"{_LAYER}.{theirs}", f"layers/{ours}")


def table(config: VJEPA2Config) -> Table:
    """The keys of the encoder."""
    tubelet = config.tubelet_size
    return Table(
        prefix=r"(?:vjepa2\.)?",  # present in the checkpoints with a classifier
        entries=(
            *_patches("encoder.embeddings.patch_embeddings", "patch_embedding", config, tubelet),
            *_layers(),
            *norm("encoder.layernorm", "norm"),
        ),
        ignored=(
            Ignored(r"predictor\..*", "V-JEPA 2's predictor of masked tokens; VL-JEPA has its own"),
            Ignored(r"(?:pooler|classifier)\..*", "head of a fine-tuned classifier"),
        ),
    )


def table_2_1(config: VJEPA21Config) -> Table:
    """The keys of a V-JEPA 2.1 encoder."""
    tubelet = config.tubelet_size
    return Table(
        entries=(
            *_patches("encoder.embeddings.patch_embeddings", "patch_embedding", config, tubelet),
            *_patches("patch_embed_img", "image_patch_embedding", config, 1),
            Entry("video_mod_embed", "video_modality", VECTOR),
            Entry("img_mod_embed", "image_modality", VECTOR),
            *_layers(),
            *norm("norms_block.3", "norm"),
        ),
        ignored=(Ignored(r"norms_block\.[012]\..*", "norms of earlier layers, for distillation"),),
    )


def settings(config: VJEPA2Config) -> tuple[Setting, ...]:
    """The keys of config.json (transformers' VJEPA2Config)."""
    return (
        Setting("model_type", "vjepa2"),
        Setting("architectures", ["VJEPA2Model"], checked=False),
        Setting("crop_size", config.image_size, default=256),
        *_sizes(config),
    )


def settings_2_1(config: VJEPA21Config) -> tuple[Setting, ...]:
    """The keys of the config.json that docs/vjepa2_pt_to_safetensors.py writes for V-JEPA 2.1."""
    return (
        Setting("model_type", "vjepa2_1"),
        Setting("rotary_size", config.image_size),
        *_sizes(config),
    )


def _sizes(config: VJEPA2Config | VJEPA21Config) -> tuple[Setting, ...]:
    return (
        Setting("frames_per_clip", config.num_frames, checked=False),  # does not change the model
        Setting("patch_size", config.patch_size, default=16),
        Setting("tubelet_size", config.tubelet_size, default=2),
        Setting("in_chans", 3, default=3),
        Setting("hidden_size", config.hidden_size, default=1024),
        Setting("num_hidden_layers", config.num_layers, default=24),
        Setting("num_attention_heads", config.num_heads, default=16),
        Setting("mlp_ratio", config.mlp_size / config.hidden_size, default=4.0),
        Setting("layer_norm_eps", config.norm_eps, default=1e-6),
        Setting("hidden_act", "gelu", default="gelu"),
        Setting("qkv_bias", True, default=True),
    )


def refusal(config: VJEPA2Config) -> str:
    """Why this config has no counterpart in the Hugging Face layout, or ""."""
    if config.rope == "tiled":
        return ""
    return f"rope is '{config.rope}'; V-JEPA 2 in this layout and in transformers is 'tiled'"
