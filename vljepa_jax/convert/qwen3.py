"""Keys of Qwen3-Embedding in the Hugging Face layout, for ``models.qwen3.Qwen3``."""

from vljepa_jax.config import Qwen3Config
from vljepa_jax.convert import decoder
from vljepa_jax.convert.rules import Ignored, Table
from vljepa_jax.convert.sentence_transformers import pooling
from vljepa_jax.convert.settings import Setting

_NORMS = {
    "self_attn.q_norm": "attention/query_norm",
    "self_attn.k_norm": "attention/key_norm",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "mlp_norm",
}


def table(config: Qwen3Config) -> Table:
    """The keys; every layer is used."""
    del config
    return Table(
        prefix=decoder.PREFIX,
        entries=decoder.entries(_NORMS),
        ignored=(Ignored(r"lm_head\.weight", "predicts tokens; a Y-Encoder embeds texts"),),
    )


def settings(config: Qwen3Config) -> tuple[Setting, ...]:
    """The keys of config.json (transformers' Qwen3Config)."""
    return (
        Setting("model_type", "qwen3"),
        Setting("architectures", ["Qwen3Model"], checked=False),
        Setting("vocab_size", config.vocab_size),
        Setting("hidden_size", config.hidden_size),
        Setting("num_hidden_layers", config.num_layers),
        Setting("num_attention_heads", config.num_heads),
        Setting("num_key_value_heads", config.num_kv_heads),
        Setting("head_dim", config.head_size, default=128),
        Setting("intermediate_size", config.mlp_size),
        Setting("rms_norm_eps", config.norm_eps),
        Setting("rope_parameters.rope_theta", config.rope_theta, also="rope_theta"),
        Setting(
            "rope_parameters.rope_type",
            "default",
            also="rope_scaling.rope_type",
            default="default",
        ),
        Setting("hidden_act", "silu", default="silu"),
        Setting("attention_bias", False, default=False),
        Setting("use_sliding_window", False, default=False),
    )


def folders(config: Qwen3Config) -> dict[str, tuple[Setting, ...]]:
    """sentence-transformers' folders beside the backbone, and what their config.json must say."""
    return {"1_Pooling": pooling(config.hidden_size, "lasttoken")}
