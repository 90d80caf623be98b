"""Keys of V-JEPA 2 in the Hugging Face layout (facebook/vjepa2-*), for ``models.vjepa2.VJEPA2``."""

from vljepa_jax.convert.rules import Entry, Ignored, Table

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

TABLE = Table(
    prefix=r"(?:vjepa2\.)?",  # present in the checkpoints with a classifier
    entries=(
        Entry(
            "encoder.embeddings.patch_embeddings.proj.weight",
            "patch_embedding/kernel",
            "convolution_3d",
        ),
        Entry("encoder.embeddings.patch_embeddings.proj.bias", "patch_embedding/bias"),
        *(
            Entry(f"{_LAYER}.{theirs}.weight", f"layers/{ours}/kernel", "linear")
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
