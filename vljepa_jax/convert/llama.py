"""Keys of Llama-3 in the Hugging Face layout, for ``models.llama.Llama`` and its token table."""

from vljepa_jax.config import LlamaConfig
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
_NORMS = {"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm"}


def table(config: LlamaConfig) -> Table:
    """The keys of a slice of layers; the target is {"token_embedding", "layers", "norm"}.

    The final norm is the published one, whichever layers the slice holds.
    """
    last = config.first_layer + config.num_layers - 1
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
        ),
        ignored=(
            Ignored(r"lm_head\.weight", "predicts tokens; VL-JEPA predicts embeddings"),
            Ignored(r"(?:layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq", "computed, not learned"),
        ),
        first_layer=config.first_layer,
        other_layers=f"the model holds layers {config.first_layer} to {last}",
    )
