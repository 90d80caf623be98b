"""Tiny backbones of odd sizes, filled from weights under their published names.

Goldens and live comparisons run ours through here; the references are in reference_twins.py.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vljepa_jax.config import (
    BertConfig,
    GemmaConfig,
    LlamaConfig,
    Qwen3Config,
    RopeScaling,
    VJEPA2Config,
    VJEPA21Config,
    VLMConfig,
)
from vljepa_jax.convert.families import FAMILIES
from vljepa_jax.convert.rules import convert
from vljepa_jax.models.bert import Bert
from vljepa_jax.models.gemma import Gemma
from vljepa_jax.models.llama import Llama
from vljepa_jax.models.qwen3 import Qwen3
from vljepa_jax.models.video_encoder import VIDEO_ENCODERS
from vljepa_jax.models.vlm import VLM
from vljepa_jax.objectives.vlm import VLMObjective

GOLDENS = Path(__file__).parents[1] / "goldens"
TOLERANCE = 1e-4

VJEPA2_TWIN = VJEPA2Config(
    family="vjepa2",
    image_size=12,
    num_frames=6,
    patch_size=4,
    tubelet_size=2,
    hidden_size=20,
    num_layers=3,
    num_heads=2,  # heads of 10: thirds of 2, and 4 features that do not turn
    mlp_size=30,
    norm_eps=1e-6,
    rope="tiled",
)
VJEPA21_TWIN = VJEPA21Config(
    family="vjepa2_1",
    image_size=20,  # positions are stretched to a grid of 5 x 5
    num_frames=6,
    patch_size=4,
    tubelet_size=2,
    hidden_size=28,
    num_layers=2,
    num_heads=2,  # heads of 14: thirds of 4, and 2 features that do not turn
    mlp_size=30,
    norm_eps=1e-6,
)
LLAMA_TWIN = LlamaConfig(
    family="llama",
    vocab_size=23,
    hidden_size=18,
    num_layers=3,
    first_layer=0,
    num_heads=6,
    num_kv_heads=2,
    head_size=8,
    mlp_size=28,
    norm_eps=1e-5,
    rope_theta=100.0,
    # The four frequencies of a head: one stays, one fades, two are divided.
    rope_scaling=RopeScaling(
        factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=40
    ),
    causal=False,
)
GEMMA_TWIN = GemmaConfig(
    family="gemma",
    vocab_size=29,
    hidden_size=18,
    num_layers=4,
    num_heads=3,
    num_kv_heads=1,
    head_size=8,
    mlp_size=26,
    norm_eps=1e-6,
    query_scale=7.0,
    sliding_window=6,  # |i - j| < 4
    global_every=3,
    rope_theta_local=50.0,
    rope_theta_global=1000.0,
    dense_sizes=(22, 18),
)

QWEN3_TWIN = Qwen3Config(
    family="qwen3",
    vocab_size=31,
    hidden_size=18,
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_size=8,
    mlp_size=28,
    norm_eps=1e-6,
    rope_theta=200.0,
)


BERT_TWIN = BertConfig(
    family="bert",
    vocab_size=37,
    max_length=40,
    type_vocab_size=2,
    hidden_size=18,
    num_layers=3,
    num_heads=3,
    mlp_size=28,
    norm_eps=1e-12,
    pooling="mean",
    normalised=True,
)


VLM_TWIN = VLMConfig(
    x_encoder=VJEPA2_TWIN,
    predictor=dataclasses.replace(LLAMA_TWIN, causal=True),
    dtype="float32",
    remat="none",
    unroll_layers=False,
)


class TokenLlama(nn.Module):
    """Llama behind its token table, as the checkpoint holds them."""

    config: LlamaConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens, mask):
        config = self.config
        embedded = nn.Embed(
            config.vocab_size, config.hidden_size, dtype=self.dtype, name="token_embedding"
        )(tokens)
        llama = Llama(config, self.dtype)
        nn.share_scope(self, llama)  # layers and norm stand beside the table, as in the checkpoint
        return llama(embedded, mask)


def model_of(config: Any, dtype: Any = jnp.float32) -> nn.Module:
    families = {"llama": TokenLlama, "gemma": Gemma, "qwen3": Qwen3, "bert": Bert} | VIDEO_ENCODERS
    return families[config.family](config, dtype)


def table_of(config: Any):
    return FAMILIES[config.family].table(config)


def parameters(config: Any, weights: Mapping[str, np.ndarray]) -> dict:
    return convert(weights, table_of(config), shapes(config))


@functools.cache
def shapes(config: Any) -> dict:
    if config.family in VIDEO_ENCODERS:
        side = config.patch_size
        inputs = (jnp.zeros((1, config.tubelet_size, side, side, 3), jnp.uint8),)
    else:
        inputs = (jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool))
    return jax.eval_shape(model_of(config).init, jax.random.key(0), *inputs)["params"]


@functools.cache
def _runner(config: Any, dtype: Any):
    model = model_of(config, dtype)
    method = "encode" if config.family in VIDEO_ENCODERS else None  # of pixels that are normalised

    def run(params, *inputs):
        output, state = model.apply(
            {"params": params}, *inputs, mutable=["intermediates"], method=method
        )
        return state["intermediates"]["layers"]["hidden"][0], output

    return jax.jit(run)


def run(
    config: Any, params: dict, inputs: Mapping[str, np.ndarray], dtype: Any = jnp.float32
) -> dict[str, np.ndarray]:
    """Arrays for a layer-by-layer comparison, in float32; rows at padding are zeroed.

    Returns:
        "hidden": [layers, b, n, d] after each layer; "output": the module's result.
    """
    if config.family in VIDEO_ENCODERS:
        found = _runner(config, dtype)(params, inputs["video"].astype(np.float32))
        hidden, output = (np.asarray(array, np.float32) for array in found)
        return {"hidden": hidden, "output": output}
    mask = inputs["mask"]
    found = _runner(config, dtype)(params, inputs["tokens"], mask)
    hidden, output = (np.asarray(array, np.float32) for array in found)
    kept = mask[..., None]
    if config.family == "llama":
        output = output * kept
    return {"hidden": hidden * kept, "output": output}


def vlm_parameters(weights: Mapping[str, np.ndarray], kernel: Any, bias: Any) -> dict:
    """Those of ``VLM_TWIN`` but for its X-Encoder's, whose tokens are given."""
    llama = parameters(VLM_TWIN.predictor, weights)
    return {
        "token_embedding": llama.pop("token_embedding"),
        "predictor": llama,
        "vision_projection": {"kernel": np.float32(kernel), "bias": np.float32(bias)},
    }


def run_vlm(weights: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> dict:
    """Logits of ``VLM_TWIN``, zero at padding, and the loss that its objective is the mean of."""
    params = vlm_parameters(weights, inputs["kernel"], inputs["bias"])
    batch = {"visual_tokens": np.float32(inputs["visual"]), **inputs}
    logits = np.asarray(jax.jit(VLM(VLM_TWIN).apply)({"params": params}, batch))
    config = types.SimpleNamespace(model=VLM_TWIN)
    objective = VLMObjective(config)
    found = objective.represent(params, {}, batch, jax.random.key(0))
    loss, _ = objective.loss(params, found, batch, jax.random.key(0), None)
    return {"logits": logits * inputs["mask"][..., None], "loss": np.asarray(loss)}


def error(ours: np.ndarray, reference: np.ndarray) -> float:
    """max |a - b| / max |b|."""
    assert ours.shape == reference.shape, (ours.shape, reference.shape)
    return float(np.abs(ours - reference).max() / np.abs(reference).max())


def errors(ours: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The error of every layer and of the output."""
    found = {
        f"layer {index}": error(mine, theirs)
        for index, (mine, theirs) in enumerate(
            zip(ours["hidden"], reference["hidden"], strict=True)
        )
    }
    return found | {"output": error(ours["output"], reference["output"])}
