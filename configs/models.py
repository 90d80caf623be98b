"""Models that several recipes share: the small ones, and published backbones.

Each function gives a part of a config, new at each call.
"""

import dataclasses

from ml_collections import ConfigDict

from vljepa_jax.config.published_sizes import PUBLISHED

ON_CPU = {  # how a small model is computed
    "dtype": "float32",
    "remat": "none",  # nothing is recomputed in the backward pass
    "unroll_layers": True,  # faster on CPU; a deep model would take long to compile
}


def published(name: str) -> ConfigDict:
    """A published backbone, whole (vljepa_jax/config/published_sizes.py)."""
    return ConfigDict(dataclasses.asdict(PUBLISHED[name]))


def x_encoder(size: str = "tiny", *, frames: int = 8) -> ConfigDict:
    """V-JEPA 2 of a published size, "vitl", "vith" or "vitg", or our small one, "tiny"."""
    config = published(f"vjepa2-{'vitl' if size == 'tiny' else size}")
    config.num_frames = frames
    if size == "tiny":  # 8 frames of 80 pixels are 4 x 4 x 4 = 64 tokens
        config.image_size, config.patch_size = 80, 20  # pixels
        config.hidden_size, config.num_heads = 192, 3  # heads of 64, as V-JEPA 2's own
        config.num_layers = 4
        config.mlp_size = 672
    return config


def language_model(*, first_layer: int = 0, num_layers: int = 4, causal: bool = True) -> ConfigDict:
    """The small language model, of 4 layers, or those from ``first_layer`` on."""
    return ConfigDict(
        {
            "family": "llama",
            "vocab_size": 1024,
            "hidden_size": 192,
            "num_layers": num_layers,
            "first_layer": first_layer,
            "num_heads": 3,
            "num_kv_heads": 3,
            "head_size": 64,
            "mlp_size": 512,
            "norm_eps": 1e-5,
            "rope_theta": 500_000.0,  # Llama 3
            "rope_scaling": None,  # for contexts longer than any here
            "causal": causal,
        }
    )


def y_encoder() -> ConfigDict:
    """The small text encoder."""
    return ConfigDict(
        {
            "family": "gemma",
            "vocab_size": 1024,
            "hidden_size": 160,
            "num_layers": 3,
            "num_heads": 4,
            "num_kv_heads": 1,
            "head_size": 40,
            "mlp_size": 320,
            "norm_eps": 1e-6,
            "query_scale": 40.0,  # scores are scaled by query_scale ** -0.5
            "sliding_window": 16,  # local layers see 8 tokens to either side
            "global_every": 3,  # every third layer is global
            "rope_theta_local": 10_000.0,
            "rope_theta_global": 1_000_000.0,
            "dense_sizes": (),  # EmbeddingGemma's two dense layers are left out
        }
    )


def attentive_pooler() -> ConfigDict:
    """One cross-attention, told the question: a probe of the tiny X-Encoder."""
    return ConfigDict(
        {
            # V-JEPA 2's probes have 4 layers, 3 of self-attention before the cross-attention, on
            # encoders of 24 to 40; ours: a probe that cannot compute much itself.
            "num_layers": 0,
            "num_heads": 3,  # V-JEPA 2: as the encoder
            "mlp_size": 768,  # V-JEPA 2: 4 times the width
            "norm_eps": 1e-6,
            # Ours: questions about clips of several objects name one of them.
            "query_vocab_size": 1024,  # of the query tokenizer; 0 does not tell the question
        }
    )
