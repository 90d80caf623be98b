"""Keys of V-JEPA 2 in the Hugging Face layout (facebook/vjepa2-*), for ``models.vjepa2.VJEPA2``."""

from vljepa_jax.config import VJEPA2Config
from vljepa_jax.convert.rules import Entry, Ignored, Table
from vljepa_jax.convert.settings import Setting
from vljepa_jax.convert.transforms import LINEAR, Convolution3D

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


def table(config: VJEPA2Config) -> Table:
    """The keys of the encoder."""
    return Table(
        prefix=r"(?:vjepa2\.)?",  # present in the checkpoints with a classifier
        entries=(
            Entry(
                "encoder.embeddings.patch_embeddings.proj.weight",
                "patch_embedding/kernel",
                Convolution3D((config.tubelet_size, config.patch_size, config.patch_size)),
            ),
            Entry("encoder.embeddings.patch_embeddings.proj.bias", "patch_embedding/bias"),
            *(
                Entry(f"{_LAYER}.{theirs}.weight", f"layers/{ours}/kernel", LINEAR)
                for theirs, ours in _LINEARS.items()
            ),
            *(
                Entry(f"{_LAYER}.{theirs}.bias", f"layers/{ours}/bias")
                for theirs, ours in _LINEARS.items()
            ),
            *(
                Entry(f"{_LAYER}.{theirs}.{kind}", f"layers/{ours}/{parameter}")
                for theirs, ours in _NORMS.items()
                for kind, parameter in (("weight", "scale"), ("bias", "bias"))
            ),
            Entry("encoder.layernorm.weight", "norm/scale"),
            Entry("encoder.layernorm.bias", "norm/bias"),
        ),
        ignored=(
            Ignored(r"predictor\..*", "V-JEPA 2's predictor of masked tokens; VL-JEPA has its own"),
            Ignored(r"(?:pooler|classifier)\..*", "head of a fine-tuned classifier"),
        ),
    )


def settings(config: VJEPA2Config) -> tuple[Setting, ...]:
    """What config.json must say (transformers' VJEPA2Config)."""
    return (
        Setting("model_type", "vjepa2"),
        Setting("architectures", ["VJEPA2Model"], checked=False),
        Setting("crop_size", config.image_size, default=256),
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
    return f"rope is '{config.rope}'; weights of V-JEPA 2 in this layout are for 'tiled' alone"
