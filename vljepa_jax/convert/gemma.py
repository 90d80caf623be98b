"""Keys of EmbeddingGemma in the Hugging Face layout, for ``models.gemma.Gemma``.

The dense layers lie in folders of their own beside the backbone (sentence-transformers' layout);
their keys are named with the folder: "2_Dense/linear.weight".
"""

from vljepa_jax.config import GemmaConfig
from vljepa_jax.convert.rules import Entry, Ignored, Table

_LAYER = "layers.{layer}"
_LINEARS = {
    "self_attn.q_proj": "attention/query",
    "self_attn.k_proj": "attention/key",
    "self_attn.v_proj": "attention/value",
    "self_attn.o_proj": "attention/output",
    "mlp.gate_proj": "mlp/gate",
    "mlp.up_proj": "mlp/up",
    "mlp.down_proj": "mlp/down",
}
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
        Entry(
            f"{index + _FIRST_DENSE_FOLDER}_Dense/linear.weight", f"dense_{index}/kernel", "linear"
        )
        for index in range(len(config.dense_sizes))
    )
    dropped = Ignored(r"\d+_Dense/linear\.weight", "the config drops the dense layers")
    return Table(
        prefix=r"(?:model\.)?",
        entries=(
            Entry("embed_tokens.weight", "token_embedding/embedding"),
            *(
                Entry(f"{_LAYER}.{theirs}.weight", f"layers/{ours}/kernel", "linear")
                for theirs, ours in _LINEARS.items()
            ),
            *(
                Entry(f"{_LAYER}.{theirs}.weight", f"layers/{ours}/scale")
                for theirs, ours in _NORMS.items()
            ),
            Entry("norm.weight", "norm/scale"),
            *dense,
        ),
        ignored=() if dense else (dropped,),
    )
