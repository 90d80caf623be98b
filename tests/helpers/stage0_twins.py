"""V-JEPA 2's mask predictor and attentive pooler from their weights under published names.

Their tables stand here and not in ``convert``: nothing but these tests reads such weights, as the
published checkpoints serve as X-Encoders.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tests.helpers.twins import VJEPA2_TWIN
from vljepa_jax.config import AttentivePoolerConfig, MaskPredictorConfig
from vljepa_jax.convert.rules import Entry, Table, convert
from vljepa_jax.convert.transforms import LINEAR
from vljepa_jax.models.mask_predictor import MaskPredictor
from vljepa_jax.models.probe import AttentivePooler

PREDICTOR_TWIN = MaskPredictorConfig(
    hidden_size=16, num_layers=2, num_heads=2, mlp_size=24, norm_eps=1e-6
)
POOLED_TWIN = dataclasses.replace(VJEPA2_TWIN, hidden_size=12)
POOLER_TWIN = AttentivePoolerConfig(
    num_layers=2, num_heads=2, mlp_size=48, norm_eps=1e-6, query_vocab_size=0
)
MASK_TOKEN = 1  # the one that the reference takes


def _linears(pairs: Mapping[str, str]) -> list[Entry]:
    return [
        entry
        for theirs, ours in pairs.items()
        for entry in (
            Entry(f"{theirs}.weight", f"{ours}/kernel", LINEAR),
            Entry(f"{theirs}.bias", f"{ours}/bias"),
        )
    ]


def _norms(pairs: Mapping[str, str]) -> list[Entry]:
    return [
        Entry(f"{theirs}.{kind}", f"{ours}/{parameter}")
        for theirs, ours in pairs.items()
        for kind, parameter in (("weight", "scale"), ("bias", "bias"))
    ]


def _layer(prefix: str, names: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    linears = {
        f"{prefix}.{names[part]}": f"layers/attention/{part}"
        for part in ("query", "key", "value", "output")
    }
    linears |= {f"{prefix}.mlp.fc1": "layers/mlp/up", f"{prefix}.mlp.fc2": "layers/mlp/down"}
    norms = {
        f"{prefix}.{names['attention_norm']}": "layers/attention_norm",
        f"{prefix}.{names['mlp_norm']}": "layers/mlp_norm",
    }
    return linears, norms


def predictor_parameters(weights: Mapping[str, np.ndarray]) -> dict:
    linears, norms = _layer(
        "predictor.layer.{layer}",
        {
            **{part: f"attention.{part}" for part in ("query", "key", "value")},
            "output": "attention.proj",
            "attention_norm": "norm1",
            "mlp_norm": "norm2",
        },
    )
    linears["predictor.embeddings.predictor_embeddings"] = "embedding"
    linears["predictor.proj"] = "projection"
    norms["predictor.layernorm"] = "norm"
    entries = [*_linears(linears), *_norms(norms)]
    shapes = _predictor_shapes()
    rest = dict(weights)
    tokens = rest.pop("predictor.embeddings.mask_tokens")
    target = {name: tree for name, tree in shapes.items() if name != "mask_tokens"}
    params = convert(rest, Table(prefix="", entries=tuple(entries), ignored=()), target)
    return params | {"mask_tokens": tokens.reshape(shapes["mask_tokens"].shape)}


def _predictor() -> MaskPredictor:
    return MaskPredictor(PREDICTOR_TWIN, VJEPA2_TWIN, num_masks=2)


@functools.cache
def _predictor_shapes():
    one = jnp.zeros((1, 1), jnp.int32)
    context = jnp.zeros((1, 1, VJEPA2_TWIN.hidden_size))

    def init(rng):
        return _predictor().init(rng, context, one, one, (1, 1, 1), 0)

    return jax.eval_shape(init, jax.random.key(0))["params"]


@functools.partial(jax.jit, static_argnames="grid")
def _predict(params, context, kept, predicted, grid):
    return _predictor().apply({"params": params}, context, kept, predicted, grid, MASK_TOKEN)


def run_predictor(params: dict, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    tokens, kept = inputs["tokens"].astype(np.float32), inputs["kept"]
    context = np.take_along_axis(tokens, kept[..., None], axis=1)
    grid = tuple(inputs["grid"].tolist())
    return np.asarray(_predict(params, context, kept, inputs["predicted"], grid))


def pooler_parameters(weights: Mapping[str, np.ndarray]) -> tuple[dict, np.ndarray]:
    """The pooler's parameters, and its query vector, which ours keeps elsewhere."""
    linears, norms = _layer(
        "self_attention_layers.{layer}",
        {
            **{part: f"self_attn.{part[0]}_proj" for part in ("query", "key", "value")},
            "output": "self_attn.out_proj",
            "attention_norm": "layer_norm1",
            "mlp_norm": "layer_norm2",
        },
    )
    cross = "cross_attention_layer"
    linears |= {f"{cross}.cross_attn.{part[0]}_proj": part for part in ("query", "key", "value")}
    linears |= {f"{cross}.mlp.fc1": "mlp/up", f"{cross}.mlp.fc2": "mlp/down"}
    norms |= {f"{cross}.layer_norm1": "token_norm", f"{cross}.layer_norm2": "mlp_norm"}
    entries = (*_linears(linears), *_norms(norms))
    rest = dict(weights)
    query = rest.pop("query_tokens").astype(np.float32)
    return convert(rest, Table(prefix="", entries=entries, ignored=()), _pooler_shapes()), query


@functools.cache
def _pooler_shapes():
    x = jnp.zeros((1, 1, POOLED_TWIN.hidden_size))
    return jax.eval_shape(AttentivePooler(POOLER_TWIN).init, jax.random.key(0), x, x)["params"]


_pool = jax.jit(AttentivePooler(POOLER_TWIN).apply)


def run_pooler(params: dict, query: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    queries = np.repeat(query, len(tokens), axis=0)
    return np.asarray(_pool({"params": params}, tokens.astype(np.float32), queries)[:, 0])
