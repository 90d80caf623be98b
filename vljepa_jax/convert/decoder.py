"""Keys that Llama, Gemma and Qwen share in the Hugging Face layout."""

from collections.abc import Mapping

from vljepa_jax.convert.rules import Entry
from vljepa_jax.convert.transforms import LINEAR

PREFIX = r"(?:model\.)?"  # present in checkpoints with a head that predicts tokens

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


def entries(norms: Mapping[str, str]) -> tuple[Entry, ...]:
    """Token table, layers and final norm.

    Args:
        norms: of a layer, theirs -> ours, in which the families differ.
    """
    return (
        Entry("embed_tokens.weight", "token_embedding/embedding"),
        *(
            Entry(f"{_LAYER}.{theirs}.weight", f"layers/{ours}/kernel", LINEAR)
            for theirs, ours in _LINEARS.items()
        ),
        *(
            Entry(f"{_LAYER}.{theirs}.weight", f"layers/{ours}/scale")
            for theirs, ours in norms.items()
        ),
        Entry("norm.weight", "norm/scale"),
    )
