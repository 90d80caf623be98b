"""Parameter counts of the paper's model, without allocating it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljepa_jax.config import GemmaConfig, LlamaConfig, ModelConfig, RopeScaling, VJEPA2Config
from vljepa_jax.models.vljepa import VLJEPA

PAPER = ModelConfig(
    x_encoder=VJEPA2Config(
        family="vjepa2",
        image_size=256,
        num_frames=16,
        patch_size=16,
        tubelet_size=2,
        hidden_size=1024,
        num_layers=24,
        num_heads=16,
        mlp_size=4096,
        norm_eps=1e-6,
        rope="tiled",
    ),
    predictor=LlamaConfig(
        family="llama",
        vocab_size=128_256,
        hidden_size=2048,
        num_layers=8,
        first_layer=8,
        num_heads=32,
        num_kv_heads=8,
        head_size=64,
        mlp_size=8192,
        norm_eps=1e-5,
        rope_theta=500_000.0,
        rope_scaling=RopeScaling(
            factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192
        ),
        causal=False,
    ),
    y_encoder=GemmaConfig(
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
    embedding_size=1536,
    pooling="all",
    initial_temperature=0.07,
    max_logit_scale=100.0,
    dtype="bfloat16",
    remat="none",
    unroll_layers=False,
)


@pytest.fixture(scope="module")
def counts():
    batch = {
        "video": jax.ShapeDtypeStruct((1, 2, 256, 256, 3), jnp.uint8),
        **{
            f"{side}_{kind}": jax.ShapeDtypeStruct((1, 4), dtype)
            for side in ("query", "target")
            for kind, dtype in (("tokens", jnp.int32), ("mask", jnp.bool_))
        },
    }
    shapes = jax.eval_shape(VLJEPA(PAPER).init, jax.random.key(0), batch)["params"]

    def count(tree):
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))

    return {name: count(tree) for name, tree in shapes.items()} | {
        "dense": count([shapes["y_encoder"][f"dense_{i}"] for i in (0, 1)])
    }


@pytest.mark.parametrize(
    ("parts", "millions"),
    [
        (("x_encoder",), 303.9),
        (("predictor", "vision_projection", "predictor_head"), 491.8),
        (("token_embedding",), 262.7),
        (("y_encoder",), 307.6),
    ],
)
def test_counts_of_the_parts(counts, parts, millions):
    assert sum(counts[part] for part in parts) / 1e6 == pytest.approx(millions, rel=0.005)


def test_count_of_the_bare_y_encoder(counts):
    assert (counts["y_encoder"] - counts["dense"]) / 1e6 == pytest.approx(302.9, rel=0.005)
