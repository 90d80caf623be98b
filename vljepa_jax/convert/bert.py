"""Keys of BERT in the Hugging Face layout, for ``models.bert.Bert``."""

from vljepa_jax.config import BertConfig
from vljepa_jax.convert.entries import linear, norm
from vljepa_jax.convert.rules import Entry, Ignored, Table
from vljepa_jax.convert.sentence_transformers import pooling
from vljepa_jax.convert.settings import Setting

_MEND = "set model.y_encoder.pooling, which may be mean, cls, lasttoken or max"
_LAYER = "encoder.layer.{layer}"
_LINEARS = {
    "attention.self.query": "attention/query",
    "attention.self.key": "attention/key",
    "attention.self.value": "attention/value",
    "attention.output.dense": "attention/output",
    "intermediate.dense": "mlp/up",
    "output.dense": "mlp/down",
}
_NORMS = {"attention.output.LayerNorm": "attention_norm", "output.LayerNorm": "mlp_norm"}


def table(config: BertConfig) -> Table:
    """The keys; every layer is used."""
    del config
    return Table(
        prefix=r"(?:bert\.)?",  # present in checkpoints with a head that predicts tokens
        entries=(
            Entry("embeddings.word_embeddings.weight", "token_embedding/embedding"),
            Entry("embeddings.position_embeddings.weight", "position_embedding"),
            Entry("embeddings.token_type_embeddings.weight", "type_embedding"),
            *norm("embeddings.LayerNorm", "embedding_norm"),
            *(
                entry
                for theirs, ours in _LINEARS.items()
                for entry in linear(f"{_LAYER}.{theirs}", f"layers/{ours}")
            ),
            *(
                entry
                for theirs, ours in _NORMS.items()
                for entry in norm(f"{_LAYER}.{theirs}", f"layers/{ours}")
            ),
        ),
        ignored=(
            Ignored(r"embeddings\.position_ids", "counted, not learned"),
            Ignored(r"pooler\.dense\.(weight|bias)", "sentence-transformers pools tokens instead"),
            Ignored(r"cls\..*", "predicts tokens; a Y-Encoder embeds texts"),
        ),
    )


def settings(config: BertConfig) -> tuple[Setting, ...]:
    """The keys of config.json (transformers' BertConfig)."""
    return (
        Setting("model_type", "bert"),
        Setting("architectures", ["BertModel"], checked=False),
        Setting("vocab_size", config.vocab_size),
        Setting("max_position_embeddings", config.max_length),
        Setting("type_vocab_size", config.type_vocab_size, default=2),
        Setting("hidden_size", config.hidden_size),
        Setting("num_hidden_layers", config.num_layers),
        Setting("num_attention_heads", config.num_heads),
        Setting("intermediate_size", config.mlp_size),
        Setting("layer_norm_eps", config.norm_eps, default=1e-12),
        Setting("hidden_act", "gelu", default="gelu"),
        Setting("position_embedding_type", "absolute", default="absolute"),
        Setting("is_decoder", False, default=False),
    )


def folders(config: BertConfig) -> dict[str, tuple[Setting, ...]]:
    """sentence-transformers' folders beside the backbone, and what their config.json must say."""
    found = {"1_Pooling": pooling(config.hidden_size, config.pooling, mend=_MEND)}
    return found | ({"2_Normalize": ()} if config.normalised else {})
