"""Keys of EmbeddingGemma in the Hugging Face layout, for ``models.gemma.Gemma``.

The dense layers lie in folders of their own beside the backbone (sentence-transformers' layout);
their keys are named with the folder: "2_Dense/linear.weight".
"""

import itertools

from vljepa_jax.config import GemmaConfig
from vljepa_jax.convert import decoder
from vljepa_jax.convert.rules import Entry, Ignored, Table
from vljepa_jax.convert.sentence_transformers import pooling
from vljepa_jax.convert.settings import Setting
from vljepa_jax.convert.transforms import LINEAR

_NORMS = {
    "self_attn.q_norm": "attention/query_norm",
    "self_attn.k_norm": "attention/key_norm",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "attention_post_norm",
    "pre_feedforward_layernorm": "mlp_norm",
    "post_feedforward_layernorm": "mlp_post_norm",
}
_FIRST_DENSE_FOLDER = 2  # after 0_Transformer and 1_Pooling


def table(config: GemmaConfig) -> Table:
    """The keys, with the dense layers or, where the config drops them, without."""
    dense = tuple(
        Entry(f"{index + _FIRST_DENSE_FOLDER}_Dense/linear.weight", f"dense_{index}/kernel", LINEAR)
        for index in range(len(config.dense_sizes))
    )
    dropped = Ignored(r"\d+_Dense/linear\.weight", "the config drops the dense layers")
    return Table(
        prefix=decoder.PREFIX,
        entries=(
            *decoder.entries(_NORMS),
            *dense,
        ),
        ignored=() if dense else (dropped,),
    )


def settings(config: GemmaConfig) -> tuple[Setting, ...]:
    """The keys of config.json (transformers' Gemma3TextConfig)."""
    kinds = [
        "sliding_attention" if (layer + 1) % config.global_every else "full_attention"
        for layer in range(config.num_layers)
    ]
    rope = "rope_parameters"
    return (
        Setting("model_type", "gemma3_text"),
        Setting("architectures", ["Gemma3TextModel"], checked=False),
        Setting("use_bidirectional_attention", True),
        Setting("vocab_size", config.vocab_size),
        Setting("hidden_size", config.hidden_size),
        Setting("num_hidden_layers", config.num_layers),
        Setting("num_attention_heads", config.num_heads),
        Setting("num_key_value_heads", config.num_kv_heads),
        Setting("head_dim", config.head_size),
        Setting("intermediate_size", config.mlp_size),
        Setting("rms_norm_eps", config.norm_eps),
        Setting("query_pre_attn_scalar", int(config.query_scale)),
        Setting("sliding_window", config.sliding_window),
        Setting("layer_types", kinds),
        Setting(
            f"{rope}.sliding_attention.rope_theta",
            config.rope_theta_local,
            also="rope_local_base_freq",
        ),
        Setting(f"{rope}.full_attention.rope_theta", config.rope_theta_global, also="rope_theta"),
        Setting(f"{rope}.sliding_attention.rope_type", "default", default="default"),
        Setting(
            f"{rope}.full_attention.rope_type",
            "default",
            also="rope_scaling.rope_type",
            default="default",
        ),
        Setting("hidden_activation", "gelu_pytorch_tanh", default="gelu_pytorch_tanh"),
        Setting("attention_bias", False, default=False),
        Setting("attn_logit_softcapping", None, default=None),
    )


def folders(config: GemmaConfig) -> dict[str, tuple[Setting, ...]]:
    """sentence-transformers' folders beside the backbone, and what their config.json must say."""
    sizes = (config.hidden_size, *config.dense_sizes)
    found = {"1_Pooling": pooling(config.hidden_size, "mean")}
    for index, (size_in, size_out) in enumerate(itertools.pairwise(sizes)):
        found[f"{index + _FIRST_DENSE_FOLDER}_Dense"] = (
            Setting("in_features", size_in),
            Setting("out_features", size_out),
            Setting("bias", False),
            Setting(
                "activation_function",
                "torch.nn.modules.linear.Identity",
                default="torch.nn.modules.linear.Identity",
            ),
        )
    return found
