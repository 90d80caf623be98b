"""Keys of Llama-3 in the Hugging Face layout, for ``models.llama.Llama`` and its token table."""

from vljepa_jax.config import LlamaConfig
from vljepa_jax.convert import decoder
from vljepa_jax.convert.rules import Ignored, Table
from vljepa_jax.convert.settings import Setting

_NORMS = {"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm"}


def table(config: LlamaConfig) -> Table:
    """The keys of a slice of layers; the target is {"token_embedding", "layers", "norm"}.

    The final norm is the published one, whichever layers the slice holds.
    """
    last = config.first_layer + config.num_layers - 1
    return Table(
        prefix=decoder.PREFIX,
        entries=decoder.entries(_NORMS),
        ignored=(
            Ignored(
                r"lm_head\.weight",
                "here the token table predicts, where tokens are predicted",
            ),
            Ignored(r"(?:layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq", "computed, not learned"),
        ),
        first_layer=config.first_layer,
        other_layers=f"the model holds layers {config.first_layer} to {last}",
    )


def settings(config: LlamaConfig) -> tuple[Setting, ...]:
    """The keys of config.json (transformers' LlamaConfig)."""
    rope = (
        Setting("rope_parameters.rope_theta", config.rope_theta, also="rope_theta"),
        Setting(
            "rope_parameters.rope_type",
            "llama3" if config.rope_scaling else "default",
            also="rope_scaling.rope_type",
            default="default",
        ),
    )
    if scaling := config.rope_scaling:
        rope += tuple(
            Setting(f"rope_parameters.{key}", value, also=f"rope_scaling.{key}")
            for key, value in (
                ("factor", scaling.factor),
                ("low_freq_factor", scaling.low_freq_factor),
                ("high_freq_factor", scaling.high_freq_factor),
                ("original_max_position_embeddings", scaling.original_max_positions),
            )
        ) + (
            Setting(
                "max_position_embeddings",
                int(scaling.original_max_positions * scaling.factor),
                checked=False,
            ),
        )
    return (
        Setting("model_type", "llama"),
        Setting("architectures", ["LlamaModel"], checked=False),
        # transformers attends in both directions where this is False; the weights are the same.
        Setting("is_causal", config.causal, checked=False),
        Setting("vocab_size", config.vocab_size),
        Setting("hidden_size", config.hidden_size),
        Setting(
            "num_hidden_layers", config.num_layers, at_least=config.first_layer + config.num_layers
        ),
        Setting("num_attention_heads", config.num_heads),
        Setting("num_key_value_heads", config.num_kv_heads),
        Setting("head_dim", config.head_size, default=config.head_size),  # shapes tell it too
        Setting("intermediate_size", config.mlp_size),
        Setting("rms_norm_eps", config.norm_eps),
        Setting("hidden_act", "silu", default="silu"),
        Setting("attention_bias", False, default=False),
        Setting("mlp_bias", False, default=False),
        *rope,
    )
