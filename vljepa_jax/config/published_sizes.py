"""Sizes of published backbones, by name; recipes, benchmarks and tests take them from here.

``configs/vljepa_1b.py`` alone states its own: it is the paper's table, whole.
"""

from __future__ import annotations

import dataclasses

from vljepa_jax.config.models import BertConfig, GemmaConfig, LlamaConfig, Qwen3Config, RopeScaling
from vljepa_jax.config.video_encoders import VJEPA2Config, VJEPA21Config

_VJEPA2_VITL = VJEPA2Config(
    family="vjepa2",
    image_size=256,
    num_frames=64,
    patch_size=16,
    tubelet_size=2,
    hidden_size=1024,
    num_layers=24,
    num_heads=16,
    mlp_size=4096,
    norm_eps=1e-6,
    rope="tiled",
)

_SMOLLM2_135M = LlamaConfig(
    family="llama",
    vocab_size=49_152,
    hidden_size=576,
    num_layers=30,
    first_layer=0,
    num_heads=9,
    num_kv_heads=3,
    head_size=64,
    mlp_size=1536,
    norm_eps=1e-5,
    rope_theta=100_000.0,
    rope_scaling=None,
    causal=True,
)
_MINILM_L6 = BertConfig(
    family="bert",
    vocab_size=30_522,
    max_length=512,
    type_vocab_size=2,
    hidden_size=384,
    num_layers=6,
    num_heads=12,
    mlp_size=1536,
    norm_eps=1e-12,
    pooling="mean",
    normalised=True,
)

PUBLISHED = {
    # facebook/vjepa2-vitl-fpc64-256 and so on.
    "vjepa2-vitl": _VJEPA2_VITL,
    "vjepa2-vith": dataclasses.replace(
        _VJEPA2_VITL, hidden_size=1280, num_layers=32, num_heads=16, mlp_size=5120
    ),
    "vjepa2-vitg": dataclasses.replace(
        _VJEPA2_VITL, hidden_size=1408, num_layers=40, num_heads=22, mlp_size=6144
    ),
    # V-JEPA 2.1's ViT-B, distilled (facebookresearch/vjepa2).
    "vjepa2.1-vitb": VJEPA21Config(
        family="vjepa2_1",
        image_size=256,
        num_frames=64,
        patch_size=16,
        tubelet_size=2,
        hidden_size=768,
        num_layers=12,
        num_heads=12,
        mlp_size=3072,
        norm_eps=1e-6,
    ),
    # HuggingFaceTB/SmolLM2-135M and so on; the -Instruct models have the same sizes.
    "smollm2-135m": _SMOLLM2_135M,
    "smollm2-360m": dataclasses.replace(
        _SMOLLM2_135M, hidden_size=960, num_layers=32, num_heads=15, num_kv_heads=5, mlp_size=2560
    ),
    "smollm2-1.7b": dataclasses.replace(
        _SMOLLM2_135M,
        hidden_size=2048,
        num_layers=24,
        num_heads=32,
        num_kv_heads=32,
        mlp_size=8192,
        rope_theta=130_000.0,
    ),
    # sentence-transformers/all-MiniLM-L6-v2, and others of BERT's layout.
    "all-minilm-l6-v2": _MINILM_L6,
    "e5-small-v2": dataclasses.replace(_MINILM_L6, num_layers=12),
    "bge-small-en-v1.5": dataclasses.replace(_MINILM_L6, num_layers=12, pooling="cls"),
    # meta-llama/Llama-3.2-1B.
    "llama-3.2-1b": LlamaConfig(
        family="llama",
        vocab_size=128_256,
        hidden_size=2048,
        num_layers=16,
        first_layer=0,
        num_heads=32,
        num_kv_heads=8,
        head_size=64,
        mlp_size=8192,
        norm_eps=1e-5,
        rope_theta=500_000.0,
        rope_scaling=RopeScaling(
            factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192
        ),
        causal=True,
    ),
    # google/embeddinggemma-300m.
    "embeddinggemma-300m": GemmaConfig(
        family="gemma",
        vocab_size=262_144,
        hidden_size=768,
        num_layers=24,
        num_heads=3,
        num_kv_heads=1,
        head_size=256,
        mlp_size=1152,
        norm_eps=1e-6,
        query_scale=256.0,
        sliding_window=512,
        global_every=6,
        rope_theta_local=10_000.0,
        rope_theta_global=1_000_000.0,
        dense_sizes=(3072, 768),
    ),
    # Qwen/Qwen3-Embedding-0.6B.
    "qwen3-embedding-0.6b": Qwen3Config(
        family="qwen3",
        vocab_size=151_669,
        hidden_size=1024,
        num_layers=28,
        num_heads=16,
        num_kv_heads=8,
        head_size=128,
        mlp_size=3072,
        norm_eps=1e-6,
        rope_theta=1_000_000.0,
    ),
}
